"""Whether a network fits what is asked of it and the volume it is laid over, in sentences.

Each function returns what is wrong, the parameter's name first; an empty list is well.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence

from volflow.checkpoints.header import Header
from volflow.core.geometry import Triple
from volflow.core.stage import Layer
from volflow.predict.flips import nearest, unflippable
from volflow.stages.intensity import PARTS, check_image

Resolution = tuple[float, float, float]


def check_channels(
    model: str,
    header: Header,
    heads: Sequence[str],
    write: Mapping[str, tuple[int, ...]],
    flips: str,
) -> list[str]:
    """The heads and channels to be written are there, and flips keep their pairs."""
    wrong = []
    named = header.named
    offsets = named["affinity"][0].offsets if "affinity" in named else ()
    if not heads and not write and nearest(offsets) is None:
        wrong.append(
            f"write: network '{model}' has no affinities with the three neighbours (its "
            f"offsets: {list(offsets) or 'none'}); say which of its "
            f"{header.out_channels} channels are to be written, write: {{NAME: [0, ...]}}, or "
            f"which of its heads: {', '.join(named)}"
        )
    wrong += [
        f"heads: network '{model}' has no head '{name}'; it has {', '.join(named)}"
        for name in heads
        if name not in named
    ]
    named_all = [*heads, *write]
    wrong += [
        f"heads: '{name}' is named twice"
        for name in dict.fromkeys(n for n in named_all if named_all.count(n) > 1)
    ]
    for name, channels in write.items():
        if not channels or max(channels) >= header.out_channels:
            wrong.append(
                f"write: '{name}' wants channels {list(channels)} of a network that has 0 to "
                f"{header.out_channels - 1}"
            )
    slanted = unflippable(header.pairs, flips)
    if slanted:
        wrong.append(f"flips: {flips} turns offset {slanted[0]} into another pair")
    return wrong


def check_stride(name: str, sides: Triple, header: Header) -> list[str]:
    """A tile or a distance between tiles is a multiple of what the network pools to."""
    unit = header.total_stride
    if any(side % u for side, u in zip(sides, unit, strict=True)):
        return [f"{name}: {sides} is not a multiple of the network's stride {unit}"]
    return []


def check_voxels(model: str, header: Header, resolution: Resolution, tolerance: float) -> list[str]:
    """Voxels are about as large as those that the network was trained on."""
    trained = header.voxel_size_nm
    sides = zip(resolution, trained, strict=True)
    if all(abs(here - there) <= tolerance * there for here, there in sides):
        return []
    return [
        f"voxel_tolerance: voxels are {_listed(resolution)} nm, and network '{model}' was trained "
        f"on {_listed(trained)} nm; beyond {tolerance:.0%} it is not trusted (another level of the "
        "volume may fit)"
    ]


def check_em(header: Header, em: Layer | None) -> list[str]:
    """The image has the type and the channels that the network takes."""
    wrong = check_image(em)
    if em is not None and (em.channels or 1) != header.in_channels:
        wrong.append(f"em: the network takes {header.in_channels} channels, not {em.channels}")
    return wrong


def check_scaling(
    model: str, header: Header, given: bool, inputs: Mapping[str, Layer | None]
) -> list[str]:
    """The intensities by which the image is scaled will be known."""
    scaled = header.normalisation
    if scaled.kind == "fixed" or given:
        return []
    if "intensity" not in inputs:
        return [
            f"range: network '{model}' wants its image scaled by quantiles of the volume; add "
            "`- use: intensity` before, or give range: [LOW, HIGH]"
        ]
    ends = (scaled.low * PARTS, scaled.high * PARTS)
    if any(abs(end - round(end)) > 1e-6 for end in ends):
        return [f"range: quantiles are known in steps of 1/{PARTS}; give range: [LOW, HIGH]"]
    return []


def _listed(values: Resolution) -> str:
    return " x ".join(f"{value:g}" for value in values)


def check_compiler() -> list[str]:
    """There is a C++ compiler, the one that torch would call, where a network is to be compiled."""
    told = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(told[0]):
        return []
    return [
        f"compile: torch needs a C++ compiler for it, and there is no '{told[0]}' here; install "
        "one (Debian: apt install g++), name one in the variable CXX, or leave compile out"
    ]
