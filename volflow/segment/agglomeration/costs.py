"""What blocks and nodes of `agglomerate` take, in memory and time, as measured on FIB-25."""

from __future__ import annotations

import math

from volflow.core.geometry import Triple

BYTES_PER_VOXEL = 64  # measured: 52; on white noise, the worst there is: 165
NODE_EXPONENT = 0.82  # edges passed up grow 5.5 times when the side of a box doubles
NODE_FACTORS = (640, 210)  # without and with joining rounds; measured at 128 to 640 voxels a side
NAMES_FACTOR = 0.03  # by which each further threshold adds to it at most; measured: 0.012
# By voxel of planes: a row for each 950 of them, of 100 bytes at the peak. Without `min_size` there
# are 15 times as many. A fifth (a half) of this was measured, on isotropic voxels of 10 nm; longer
# ones cross more.
PLANE_BYTES, PLANE_BYTES_UNSIZED = 0.5, 3.0
# How time grows with the voxels of a node's children, and whether with their open faces, at
# 128 to 512 voxels a side: whoever merges works through all that was passed up, and the others
# through what touches faces. Splits hand names down, which costs little.
EFFORTS = {
    "link": (0.7, True),
    "join": (0.82, True),
    "merge": (1.03, False),
    "small": (1.1, False),
    "seams": (0.67, True),
    "split": (0.5, False),
}


def block_bytes(shape: Triple) -> int:
    """Bytes at the peak of a block whose read box has this shape."""
    return BYTES_PER_VOXEL * math.prod(shape)


def node_bytes(shape: Triple, thresholds: int, joined: bool) -> int:
    """Bytes at the peak of a node of this shape; `joined` after a joining round."""
    factor = NODE_FACTORS[joined] * (1 + NAMES_FACTOR * (thresholds - 1))
    return int(factor * math.prod(float(side) for side in shape) ** NODE_EXPONENT)


def plane_bytes(open_voxels: float, sized: bool) -> int:
    """Bytes at the peak of a node above a horizon's boxes; `sized` if there is a `min_size`.

    `open_voxels` is how many voxels of its children's faces lie on planes.
    """
    return int((PLANE_BYTES if sized else PLANE_BYTES_UNSIZED) * open_voxels)


def node_effort(kind: str, shape: Triple, open_share: float) -> float:
    """What the time of a node grows with for one child: of a round, or of a `split` of any."""
    exponent, by_faces = EFFORTS[kind]
    return math.prod(float(side) for side in shape) ** exponent * (open_share if by_faces else 1.0)
