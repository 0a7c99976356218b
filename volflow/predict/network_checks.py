"""Checks of a network against the parameters of a step and the volume that it is applied to.

Each function returns the problems, one sentence each, that begin with the parameter's name.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence

from volflow.checkpoints.header import Header
from volflow.core.geometry import Resolution, Triple
from volflow.core.stage import ForeignLayer, Layer
from volflow.predict.flips import neighbour_channels, unflippable
from volflow.predict.intensity import QUANTILE_PARTS, check_image

LARGEST_FACTOR = 64  # of downsampling


def check_channels(
    model: str,
    header: Header,
    heads: Sequence[str],
    write: Mapping[str, tuple[int, ...]],
    flips: str,
) -> list[str]:
    """Problems with the heads and channels to write, and with flips that change their offsets."""
    problems = []
    heads_by_name = header.named
    offsets = heads_by_name["affinity"][0].offsets if "affinity" in heads_by_name else ()
    if not heads and not write and neighbour_channels(offsets) is None:
        problems.append(
            f"write: network '{model}' has no affinities to the three neighbours (its offsets: "
            f"{list(offsets) or 'none'}); choose among its {header.out_channels} channels, "
            f"write: {{NAME: [0, ...]}}, or its heads: {', '.join(heads_by_name)}"
        )
    problems += [
        f"heads: network '{model}' has no head '{name}'; it has {', '.join(heads_by_name)}"
        for name in heads
        if name not in heads_by_name
    ]
    written = [*heads, *write]
    problems += [
        f"heads: '{name}' is named twice"
        for name in dict.fromkeys(n for n in written if written.count(n) > 1)
    ]
    for name, channels in write.items():
        if not channels or max(channels) >= header.out_channels:
            problems.append(
                f"write: '{name}': expected channels from 0 to {header.out_channels - 1}, the "
                f"network's; got {list(channels)}"
            )
    slanted = unflippable(header.pairs, flips)
    if slanted:
        problems.append(
            f"flips: expected axes that keep all offsets; {flips} maps offset {slanted[0]} to "
            f"another pair"
        )
    return problems


def check_stride(name: str, sides: Triple, header: Header) -> list[str]:
    """Problems with the sides of a tile or an overlap that are not multiples of the stride."""
    unit = header.total_stride
    if any(side % u for side, u in zip(sides, unit, strict=True)):
        return [f"{name}: expected multiples of the network's stride {unit}; got {sides}"]
    return []


def check_voxels(
    model: str,
    header: Header,
    resolution: Resolution,
    tolerance: float | Resolution,
    em: Layer | None = None,
) -> list[str]:
    """Problems with a voxel size that differs from the training's by more than the tolerance.

    Where averaging stored voxels of `em` by whole factors helps, the problem names the smallest.
    """
    trained = header.voxel_size_nm
    allowed = tolerance if isinstance(tolerance, tuple) else (tolerance,) * 3
    sides = list(zip(resolution, trained, allowed, strict=True))
    if all(_fits(*side) for side in sides):
        return []
    shares = [f"{each:.0%}" for each in (allowed if len(set(allowed)) > 1 else allowed[:1])]
    advice = "another scale of the volume may fit"
    if isinstance(em, ForeignLayer):
        stored = [side / factor for side, factor in zip(resolution, em.downsample, strict=True)]
        factors = [
            next((n for n in range(1, LARGEST_FACTOR + 1) if _fits(n * side, *rest)), 0)
            for side, (_, *rest) in zip(stored, sides, strict=True)
        ]
        if all(factors):
            listed = ",".join(map(str, factors))
            advice = f"average voxels with --set volumes.{em.volume}.downsample=[{listed}]"
    return [
        f"voxel_tolerance: network '{model}' was trained on voxels of {_listed(trained)} nm; "
        f"expected a voxel size within {' x '.join(shares)} of it, got {_listed(resolution)} nm; "
        f"{advice}"
    ]


def _fits(side: float, trained: float, tolerance: float) -> bool:
    return abs(side - trained) <= tolerance * trained


def check_em(header: Header, em: Layer | None) -> list[str]:
    """Problems with the dtype or the number of channels of the image."""
    problems = check_image(em)
    if em is not None and (em.channels or 1) != header.in_channels:
        problems.append(
            f"em: expected {header.in_channels} channels, as the network takes; got {em.channels}"
        )
    return problems


def check_scaling(
    model: str, header: Header, given: bool, inputs: Mapping[str, Layer | None]
) -> list[str]:
    """Problems with the intensities that the network's normalisation needs."""
    scaled = header.normalisation
    if scaled.kind == "fixed" or given:
        return []
    if "intensity" not in inputs:
        return [
            f"range: network '{model}' needs its image scaled by quantiles of the volume; add "
            "`- use: intensity` before this step, or give range: [LOW, HIGH]"
        ]
    ends = (scaled.low * QUANTILE_PARTS, scaled.high * QUANTILE_PARTS)
    if any(abs(end - round(end)) > 1e-6 for end in ends):
        return [
            f"range: expected quantiles in steps of 1/{QUANTILE_PARTS}; the network uses "
            f"{scaled.low:g} and {scaled.high:g}; give range: [LOW, HIGH]"
        ]
    return []


def _listed(values: Resolution) -> str:
    return " x ".join(f"{value:g}" for value in values)


def check_compiler() -> list[str]:
    """Problems with the C++ compiler that torch needs to compile a network."""
    compiler = (shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]
    if shutil.which(compiler):
        return []
    return [
        f"compile: torch needs a C++ compiler, and '{compiler}' was not found; install one "
        "(Debian: apt install g++), set the variable CXX, or leave compile out"
    ]
