"""Downsampling of labels: the most frequent one of each box of up to 2 x 2 x 2 voxels.

The boxes are those of `core.pooling`, which has the means of images.
"""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Triple
from volflow.core.pooling import pooled
from volflow.kernels import kernel


def pooled_labels(
    labels: np.ndarray, factor: Triple, exists: np.ndarray | None = None
) -> np.ndarray:
    """The most frequent label of each box of `factor` voxels; ties go to the smallest label.

    Label 0 counts like any other.

    Parameters
    ----------
    labels : integer or bool array, (z, y, x) or (c, z, y, x)
        Starts and ends at multiples of `factor` in absolute coordinates.
    factor : Triple
        1 or 2 along z, y, x.
    exists : bool array, (z, y, x), optional
        False for voxels that are not counted. The output is 0 where a box has no voxels.

    Returns
    -------
    array of the same dtype, `factor` times smaller

    Raises
    ------
    ValueError
        If the dtype is not an integer, or shapes or the factor do not fit.
    """
    if labels.dtype.kind not in "bui":
        raise ValueError(f"expected integer labels to pool; got {labels.dtype}")
    if any(f not in (1, 2) for f in factor):
        raise ValueError(f"expected pooling factors of 1 or 2; got {factor}")
    pool = _modes_of_eight if tuple(factor) == (2, 2, 2) else _modes
    return pooled(pool, labels, factor, exists)


@kernel
def _modes(
    labels: np.ndarray, exists: np.ndarray, fz: int, fy: int, fx: int, out: np.ndarray
) -> None:
    """Write the most frequent label of each box to `out`."""
    all_exist = exists.size == 0
    depth, height, width = out.shape
    box = np.empty(8, labels.dtype)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                voxels = 0
                same = True
                for dz in range(fz):
                    for dy in range(fy):
                        for dx in range(fx):
                            vz, vy, vx = z * fz + dz, y * fy + dy, x * fx + dx
                            if all_exist or exists[vz, vy, vx]:
                                box[voxels] = labels[vz, vy, vx]
                                same = same and box[voxels] == box[0]
                                voxels += 1
                if voxels == 0:
                    out[z, y, x] = 0
                elif same:
                    out[z, y, x] = box[0]
                else:
                    out[z, y, x] = _mode(box, voxels)


@kernel
def _modes_of_eight(
    labels: np.ndarray, exists: np.ndarray, fz: int, fy: int, fx: int, out: np.ndarray
) -> None:
    """Write the most frequent label of each box of 2 x 2 x 2 voxels to `out`, as `_modes` does.

    Most boxes hold one label. For the others all pairs are compared without a branch.
    """
    all_exist = exists.size == 0
    depth, height, width = out.shape
    box = np.empty(8, labels.dtype)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                vz, vy, vx = z * 2, y * 2, x * 2
                a, b = labels[vz, vy, vx], labels[vz, vy, vx + 1]
                c, d = labels[vz, vy + 1, vx], labels[vz, vy + 1, vx + 1]
                e, f = labels[vz + 1, vy, vx], labels[vz + 1, vy, vx + 1]
                g, h = labels[vz + 1, vy + 1, vx], labels[vz + 1, vy + 1, vx + 1]
                if not all_exist:
                    voxels = 0
                    for dz in range(2):
                        for dy in range(2):
                            for dx in range(2):
                                if exists[vz + dz, vy + dy, vx + dx]:
                                    box[voxels] = labels[vz + dz, vy + dy, vx + dx]
                                    voxels += 1
                    if voxels == 0:
                        out[z, y, x] = 0
                        continue
                    if voxels < 8:
                        out[z, y, x] = _mode(box, voxels)
                        continue
                if (a ^ b) | (a ^ c) | (a ^ d) | (a ^ e) | (a ^ f) | (a ^ g) | (a ^ h):
                    out[z, y, x] = _mode_of_eight(a, b, c, d, e, f, g, h)
                else:
                    out[z, y, x] = a


@kernel
def _mode_of_eight(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int) -> int:
    """The most frequent of eight labels; ties go to the smallest."""
    ab, ac, ad, ae, af, ag, ah = a == b, a == c, a == d, a == e, a == f, a == g, a == h
    bc, bd, be, bf, bg, bh = b == c, b == d, b == e, b == f, b == g, b == h
    cd, ce, cf, cg, ch = c == d, c == e, c == f, c == g, c == h
    de, df, dg, dh = d == e, d == f, d == g, d == h
    ef, eg, eh, fg, fh, gh = e == f, e == g, e == h, f == g, f == h, g == h
    best, most = a, 0 + ab + ac + ad + ae + af + ag + ah
    for label, count in (
        (b, 0 + ab + bc + bd + be + bf + bg + bh),
        (c, 0 + ac + bc + cd + ce + cf + cg + ch),
        (d, 0 + ad + bd + cd + de + df + dg + dh),
        (e, 0 + ae + be + ce + de + ef + eg + eh),
        (f, 0 + af + bf + cf + df + ef + fg + fh),
        (g, 0 + ag + bg + cg + dg + eg + fg + gh),
        (h, 0 + ah + bh + ch + dh + eh + fh + gh),
    ):
        better = (count > most) | ((count == most) & (label < best))
        best, most = label if better else best, count if better else most
    return best


@kernel
def _mode(box: np.ndarray, voxels: int) -> np.generic:
    """The most frequent of the first `voxels` entries; ties go to the smallest."""
    best, most = box[0], 0
    for i in range(voxels):
        count = 0
        for j in range(voxels):
            count += box[j] == box[i]
        if count > most or (count == most and box[i] < best):
            best, most = box[i], count
    return best  # type: ignore[no-any-return]  # numba
