"""Memory and time of the blocks and nodes of `agglomerate`, as measured on FIB-25."""

from __future__ import annotations

import math

from volflow.core.geometry import Triple

BYTES_PER_VOXEL = 64  # measured: 52; on white noise, the worst case: 165
NODE_EXPONENT = 0.82  # edges passed up grow 5.5 times when the side of a box doubles
NODE_FACTORS = (640, 210)  # without and with joining rounds; measured at 128 to 640 voxels a side
NAMES_FACTOR = 0.03  # upper bound of the share that each further threshold adds; measured: 0.012
# Per voxel of the planes: one row per 950 voxels, of 100 bytes at the peak; without `min_size`, 15
# times as many rows. Measured: a fifth (a half) of these values, on isotropic voxels of 10 nm;
# elongated voxels cross the planes more often.
PLANE_BYTES, PLANE_BYTES_UNSIZED = 0.5, 3.0
# Exponent of the time in the voxels of a node's children, and whether it is proportional to their
# open faces, at 128 to 512 voxels a side: the rounds that merge process everything that was passed
# up, the others only the segments at faces. Splits pass names down, which costs little.
EFFORTS = {
    "link": (0.7, True),
    "join": (0.82, True),
    "merge": (1.03, False),
    "small": (1.1, False),
    "seams": (0.67, True),
    "split": (0.5, False),
}


def block_bytes(shape: Triple) -> int:
    """Peak memory, in bytes, of a block whose read box has this shape."""
    return BYTES_PER_VOXEL * math.prod(shape)


def node_bytes(shape: Triple, thresholds: int, joined: bool) -> int:
    """Peak memory, in bytes, of a node of this shape; `joined` if there are joining rounds."""
    factor = NODE_FACTORS[joined] * (1 + NAMES_FACTOR * (thresholds - 1))
    return int(factor * math.prod(float(side) for side in shape) ** NODE_EXPONENT)


def plane_bytes(open_voxels: float, sized: bool) -> int:
    """Peak memory, in bytes, of a node above the boxes of a horizon.

    Parameters
    ----------
    open_voxels : float
        Voxels of the children's faces that are on planes of the horizon.
    sized : bool
        Whether the stage has a `min_size`.
    """
    return int((PLANE_BYTES if sized else PLANE_BYTES_UNSIZED) * open_voxels)


def node_effort(kind: str, shape: Triple, open_share: float) -> float:
    """Relative time of a node per child; `kind` is a round's name, or `split` for any round."""
    exponent, by_faces = EFFORTS[kind]
    return math.prod(float(side) for side in shape) ** exponent * (open_share if by_faces else 1.0)
