"""Masked crops and their edges, for pretraining without labels.

Masked cells are filled with noise of the mean and standard deviation of the crop, so that only
the missing structure gives them away. Besides the image, the network predicts its edges: a picture
of histograms of oriented gradients, which is less sensitive to noise.

References
----------
SegNeuron (MICCAI 2024), its pretraining; Dalal and Triggs, Histograms of Oriented Gradients for
Human Detection, CVPR 2005; the picture is that of scikit-image's `hog`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from volflow.core.geometry import Triple

DEPTHS = (2, 4, 5)  # sections of a masked cell
SIDES = (4, 8, 16)  # voxels of a masked cell along y and x
LEAST, MOST = 0.5, 0.7  # fraction of cells that are masked
ORIENTATIONS = 9
CELL = 4  # pixels of a cell of the histograms, along y and x


def hidden_cells(shape: Triple, rng: np.random.Generator) -> np.ndarray:
    """A random mask of a crop: whole cells, whose size and fraction are drawn for this crop.

    Parameters
    ----------
    shape : Triple
        Shape of the crop, voxels z y x.
    rng : Generator

    Returns
    -------
    bool array, (Z, Y, X)
        True in masked cells, a fraction of all cells drawn from 0.5 to 0.7.

    Raises
    ------
    ValueError
        If no cell size divides the crop.
    """
    depths = [depth for depth in DEPTHS if shape[0] % depth == 0]
    sides = [side for side in SIDES if shape[1] % side == 0 and shape[2] % side == 0]
    if not depths or not sides:
        raise ValueError(
            f"the crop is not made of whole cells; expected z a multiple of one of {DEPTHS}, "
            f"y and x of one of {SIDES}, got {shape}"
        )
    depth, side = int(rng.choice(depths)), int(rng.choice(sides))
    grid = shape[0] // depth, shape[1] // side, shape[2] // side
    fraction = rng.uniform(LEAST, MOST)
    chosen = np.zeros(prod(grid), bool)
    chosen[rng.permutation(chosen.size)[: round(fraction * chosen.size)]] = True
    cells = chosen.reshape(grid)
    hidden: np.ndarray = cells.repeat(depth, 0).repeat(side, 1).repeat(side, 2)
    return hidden


def fill_with_noise(image: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with noise of its own mean and standard deviation in masked cells.

    Parameters
    ----------
    image : float32 array, (Z, Y, X)
    hidden : bool array, (Z, Y, X)
    rng : Generator

    Returns
    -------
    float32 array, (Z, Y, X)
    """
    noise = rng.standard_normal(image.shape, np.float32)
    noise = noise * image.std() + image.mean()
    return np.where(hidden, noise, image).astype(np.float32)


def edge_picture(image: np.ndarray) -> np.ndarray:
    """A picture of each section's histograms of oriented gradients, as `skimage.feature.hog` draws.

    In cells of 4x4 pixels a line is drawn for each of 9 directions, as bright as the mean gradient
    across it. scikit-image draws line by line, 65 ms for a section of 128x128 pixels; here each
    cell is one row of a matrix product, 1 ms. A test compares the two.

    Parameters
    ----------
    image : float32 array, (Z, Y, X)
        Y and X multiples of 4.

    Returns
    -------
    float32 array, (Z, Y, X)

    Raises
    ------
    ValueError
        If y or x is not a multiple of 4.
    """
    depth, height, width = image.shape
    if height % CELL or width % CELL:
        raise ValueError(f"y and x must be multiples of {CELL}; got {image.shape}")
    down, right = np.zeros_like(image), np.zeros_like(image)
    down[:, 1:-1] = image[:, 2:] - image[:, :-2]
    right[:, :, 1:-1] = image[:, :, 2:] - image[:, :, :-2]
    direction = np.rad2deg(np.arctan2(down, right)) % 180
    bins = np.minimum((direction * (ORIENTATIONS / 180)).astype(int), ORIENTATIONS - 1)
    strength = np.hypot(down, right) / CELL**2
    rows, columns = height // CELL, width // CELL
    cell = np.arange(height)[:, None] // CELL * columns + np.arange(width) // CELL
    cell = cell + (np.arange(depth) * rows * columns)[:, None, None]
    counts = np.bincount(
        (cell * ORIENTATIONS + bins).ravel(),
        strength.ravel(),
        depth * rows * columns * ORIENTATIONS,
    )
    drawn = counts.reshape(-1, ORIENTATIONS) @ LINES.reshape(ORIENTATIONS, -1)
    cells = drawn.reshape(depth, rows, columns, CELL, CELL)
    picture: np.ndarray = cells.swapaxes(2, 3).reshape(image.shape).astype(np.float32)
    return picture


def _lines() -> np.ndarray:
    """The pixels of a cell on the line of each direction, float64 (9, 4, 4) of 0 and 1."""
    lines = np.zeros((ORIENTATIONS, CELL, CELL))
    radius, middle = CELL // 2 - 1, CELL // 2
    for number, line in enumerate(lines):
        angle = np.pi * (number + 0.5) / ORIENTATIONS
        across, along = radius * np.sin(angle), radius * np.cos(angle)
        start = int(middle - along), int(middle + across)
        end = int(middle + along), int(middle - across)
        steps = max(abs(b - a) for a, b in zip(start, end, strict=True))
        for step in range(steps + 1):
            y, x = (
                int(a + (b - a) * step / max(1, steps) + 0.5)
                for a, b in zip(start, end, strict=True)
            )
            line[y, x] = 1
    return lines


LINES = _lines()
