"""Grey values and affinities of synthetic neurites, as of a microscope and a network."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel
from volflow.synth.noise import normal, uniform

CYTOPLASM, MEMBRANE, ORGAN = 172.0, 92.0, 62.0  # grey value; darkening by membranes, mitochondria
SHEATH = 1.5  # voxels: half the width of a membrane
CLEFT_SHADE, POST_SHADE, PRE_SHADE = 45.0, 50.0, 8.0  # darkening by the parts of synapses
VESICLE_SHADE, VESICLE, APART = 60.0, 1.4, 4  # darkening; voxels: radius of a ring, and spacing


@kernel
def grey_values(
    seed: np.uint64,
    start: np.ndarray,
    truth: np.ndarray,
    wall: np.ndarray,
    organ: np.ndarray,
    fine: np.ndarray,
    rough: np.ndarray,
    shade: np.ndarray,
    noise: float,
) -> np.ndarray:
    """Grey values, uint8 (z, y, x).

    Parameters
    ----------
    start : int64 array, (3,)
        Absolute coordinates of the first voxel.
    truth : uint64 array, (z, y, x)
        Labels of neurites.
    wall, organ : float32 array, (z, y, x)
        Distance to the nearest membrane, and depth inside a mitochondrion, in voxels.
    fine, rough : float32 array, (z, y, x)
        Smooth fields in [-1, 1].
    shade : float32 array, (z, y, x) or empty
        Grey values by which a voxel is darkened.
    noise : float
        Standard deviation of the noise in grey values.
    """
    out = np.empty(truth.shape, np.uint8)
    depth, height, width = truth.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                name = np.int64(truth[z, y, x])
                tint = 16.0 * (uniform(seed + np.uint64(70), 0, 0, name) - 0.5)
                grey = CYTOPLASM + tint + 11.0 * fine[z, y, x] + 9.0 * rough[z, y, x]
                inside = organ[z, y, x]
                if inside > 0.0:
                    rim = max(0.0, 1.0 - abs(inside - 0.8))
                    cristae = 16.0 * fine[z, y, x]
                    grey -= min(1.0, inside) * (ORGAN + cristae) + 22.0 * rim
                away = wall[z, y, x] / SHEATH
                if name == 0:
                    away = 0.0
                # 1 at the wall, 0.5 at SHEATH, soon nothing
                grey -= MEMBRANE / (1.0 + away * away * away * away)
                if shade.size:
                    grey -= shade[z, y, x]
                grey += noise * normal(
                    seed + np.uint64(71), start[0] + z, start[1] + y, start[2] + x
                )
                out[z, y, x] = np.uint8(min(255.0, max(0.0, grey + 0.5)))
    return out


@kernel
def synthetic_affinity(
    seed: np.uint64,
    start: np.ndarray,
    truth: np.ndarray,
    wall: np.ndarray,
    fine: np.ndarray,
    rough: np.ndarray,
    doubt: float,
) -> np.ndarray:
    """Affinities to the voxel before along z, y, x, uint8 (3, z, y, x); 0 in the first planes.

    High in the middle of a neurite, lower near membranes. The `fine` and `rough` errors are
    correlated between neighbouring voxels, so some membranes have gaps and some neurites seem to
    end.

    Parameters
    ----------
    start, truth, wall, fine, rough
        As for `grey_values`.
    doubt : float
        Amplitude of the errors, in units of log odds.
    """
    depth, height, width = truth.shape
    out = np.zeros((3, depth, height, width), np.uint8)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                for axis in range(3):
                    u = z - (1 if axis == 0 else 0)
                    v = y - (1 if axis == 1 else 0)
                    w = x - (1 if axis == 2 else 0)
                    if u < 0 or v < 0 or w < 0:
                        continue
                    middle = min(5.0, 0.5 * (wall[z, y, x] + wall[u, v, w]))
                    logit = 1.8 * (middle - 0.2)
                    if truth[z, y, x] != truth[u, v, w]:
                        logit = -2.6
                    error = 1.2 * fine[z, y, x] + 3.4 * rough[z, y, x]
                    error += 0.5 * normal(
                        seed + np.uint64(80 + axis), start[0] + z, start[1] + y, start[2] + x
                    )
                    half = 0.5 * (logit + doubt * error)
                    # A rational approximation of tanh: the same bits with any maths library.
                    half = min(3.0, max(-3.0, half))
                    sure = 0.5 + 0.5 * half * (27.0 + half * half) / (27.0 + 9.0 * half * half)
                    out[axis, z, y, x] = np.uint8(255.0 * sure + 0.5)
    return out


@kernel
def synapse_shade(
    seed: np.uint64, start: np.ndarray, parts: np.ndarray, sampled: int
) -> np.ndarray:
    """Grey values by which the parts of synapses are darkened, float32 (z, y, x).

    Vesicles are dark rings around the knots of a jittered lattice, on the presynaptic side.

    Parameters
    ----------
    start : int64 array, (3,)
        Absolute coordinates of the first voxel, before sampling.
    parts : uint8 array, (z, y, x)
        1: cleft, 2: pre, 3: post.
    sampled : int
        Number of sections from one voxel to the next along z.
    """
    out = np.zeros(parts.shape, np.float32)
    depth, height, width = parts.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                part = parts[z, y, x]
                if part == 1:
                    out[z, y, x] = CLEFT_SHADE
                elif part == 3:
                    out[z, y, x] = POST_SHADE
                elif part == 2:
                    away = _vesicle_distance(
                        seed + np.uint64(72), start[0] + z * sampled, start[1] + y, start[2] + x
                    )
                    ring = max(0.0, 1.0 - abs(away - VESICLE))
                    out[z, y, x] = PRE_SHADE + VESICLE_SHADE * ring
    return out


@kernel
def _vesicle_distance(seed: np.uint64, z: int, y: int, x: int) -> float:
    """Distance to the centre of the nearest vesicle in voxels."""
    a, b, c = z // APART, y // APART, x // APART
    least = np.inf
    for i in range(a - 1, a + 2):
        for j in range(b - 1, b + 2):
            for k in range(c - 1, c + 2):
                u = z - APART * (i + uniform(seed, i, j, k))
                v = y - APART * (j + uniform(seed + np.uint64(1), i, j, k))
                w = x - APART * (k + uniform(seed + np.uint64(2), i, j, k))
                least = min(least, u * u + v * v + w * w)
    return float(np.sqrt(least))
