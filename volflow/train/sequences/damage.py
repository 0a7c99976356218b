"""Damage of sequences: noise, misalignment, blank sections, and types of support left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from volflow.train.config.sequences import Damage
from volflow.train.sequences.draw import Sequence

BLANK = -1.0  # normalised intensity of a missing section
COARSE = 8  # pixels between the control points of smooth noise


def damaged(sequence: Sequence, how: Damage, rng: np.random.Generator) -> Sequence:
    """A sequence with all kinds of damage, at random; the truth moves with the image."""
    sequence = _without_types(sequence, how, rng)
    sequence = _misaligned(sequence, how, rng)
    sections = len(sequence.image)
    offline = {k: _noisy(layer, how.offline_noise, rng) for k, layer in sequence.offline.items()}
    image = _recoloured(sequence.image, how, rng)
    missing = rng.random(sections) < how.missing
    missing[0] = False
    image[missing] = BLANK
    for layer in offline.values():
        layer[missing] = 0
    first = sequence.first
    if rng.random() < how.mask_noise:
        first = np.stack([_careless(mask, rng) for mask in first])
    return replace(sequence, image=image, offline=offline, first=first)


def _without_types(sequence: Sequence, how: Damage, rng: np.random.Generator) -> Sequence:
    drops = rng.random(len(sequence.offline)) < how.drop
    offline = {
        kind: layer
        for (kind, layer), drop in zip(sequence.offline.items(), drops, strict=True)
        if not drop
    }
    either = rng.random()  # never both: nothing else marks the object
    return replace(
        sequence,
        offline=offline,
        masks=either >= how.drop_masks,
        affinity_input=either >= how.drop_masks * how.drop_input,
        filters=either < 1 - how.drop_filters,
    )


def _misaligned(sequence: Sequence, how: Damage, rng: np.random.Generator) -> Sequence:
    """Sections from random ones on are shifted; pixels that come in repeat the edge."""
    sections = len(sequence.image)
    shifts = rng.integers(-how.shift, how.shift + 1, (sections, 2))
    shifts[rng.random(sections) >= how.misaligned] = 0
    shifts[0] = 0
    total = np.cumsum(shifts, 0)
    if not total.any():
        return sequence

    def moved(stack: np.ndarray) -> np.ndarray:
        height, width = stack.shape[-2:]
        rows = (np.arange(height) - total[:, :1]).clip(0, height - 1)
        across = (np.arange(width) - total[:, 1:]).clip(0, width - 1)
        return np.stack(
            [section[..., y, :][..., x] for section, y, x in zip(stack, rows, across, strict=True)]
        )

    offline = {kind: moved(layer) for kind, layer in sequence.offline.items()}
    return replace(
        sequence,
        image=moved(sequence.image),
        truth=moved(sequence.truth),
        known=moved(sequence.known),
        offline=offline,
    )


def _recoloured(image: np.ndarray, how: Damage, rng: np.random.Generator) -> np.ndarray:
    sections = (len(image), 1, 1)
    uneven = how.section_contrast * rng.standard_normal((2, *sections))
    factor = (1 + how.contrast) ** rng.uniform(-1, 1) * (1 + uneven[0])
    added = how.brightness * rng.uniform(-1, 1) + uneven[1]
    noise = rng.uniform(0, how.noise) * rng.standard_normal(image.shape, np.float32)
    coloured: np.ndarray = (image * factor + added + noise).astype(np.float32)
    return coloured


def _noisy(layer: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """A layer (S, C, Y, X) with noise of `COARSE` pixels and of single pixels, within 0 and 1."""
    sections, channels, height, width = layer.shape
    few = (sections, channels, -(-height // COARSE), -(-width // COARSE))
    smooth = rng.standard_normal(few, np.float32).repeat(COARSE, 2).repeat(COARSE, 3)
    smooth = smooth[:, :, :height, :width]
    fine = rng.standard_normal(layer.shape, np.float32)
    strength = np.float32(rng.uniform(0, most))
    noisy: np.ndarray = np.clip(layer + strength * (smooth + fine), 0, 1).astype(np.float32)
    return noisy


def _careless(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (Y, X), shifted by up to two pixels, or grown or shrunk by one."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        shift = tuple(int(n) for n in rng.integers(-2, 3, 2))
        return np.roll(mask, shift, (0, 1))
    change = ndimage.binary_dilation if kind == 1 else ndimage.binary_erosion
    changed: np.ndarray = change(mask > 0).astype(np.float32)
    return changed if changed.any() else mask
