"""The network as a follower of the loop over sections: numpy in, numpy out.

A mask is a function of the sections seen since `forget` and of the object's remembered masks.
Nothing else is stored for an object: its filters are fitted to its masks in every section, so it
makes no difference where a part of a chain begins, or which other objects there are.

Objects are computed one at a time, on a fixed number of threads: a batch would change the last bits
of its members.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volflow.errors import PlanError
from volflow.models.devices import reproducible
from volflow.models.iicats.extractors import box_masks
from volflow.models.iicats.gates import OWN
from volflow.models.iicats.network import (
    IICats,
    OfflineFilters,
    Pair,
    Sections,
    joined_support,
)
from volflow.models.iicats.target_model import columns
from volflow.models.section_checkpoint import load_section_checkpoint
from volflow.predict.intensity import normalise
from volflow.track.follower import Remembered, Section

STRIDE = 32  # windows are multiples of it


def load_follower(
    path: str | os.PathLike[str], intensity: tuple[float, float], threads: int = 1
) -> NetworkFollower:
    """The follower of a checkpoint, with all its types of support.

    Parameters
    ----------
    path : path
        A checkpoint of `volflow train iicats`.
    intensity : two float
        Intensities of the volume at the percentiles that the header's normalisation names.
    threads : int

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    PlanError
        If it is the checkpoint of another network.
    """
    network, header = load_section_checkpoint(path)
    if not isinstance(network, IICats):
        raise PlanError(
            f"checkpoint {path}: expected a network that follows objects, iicats; got "
            f"{header.network}"
        )
    return NetworkFollower(network, intensity, threads=threads)


class Seen(NamedTuple):
    """A section as it is remembered: its shared parts, and the offline term of its responses."""

    shared: Sections
    offline: Tensor | None


class NetworkFollower:
    """A network that follows objects; see `track.follower.Follower`.

    Parameters
    ----------
    network : IICats
        In eval mode, float32, on the CPU.
    intensity : two float
        Intensities that are mapped to -1 and 1, as from `predict.intensity.intensity_range`.
    types : sequence of str, optional
        Types of support that are used, of those that the network has; default: all. Without `p`,
        an object's own masks reach the decoder only as previous masks.
    masks, affinity_input : bool
        Whether the decoder gets previous masks, and the trunk affinities; false: as in the paper,
        of a network that was trained with both and without.
    threads : int
        Threads of a CPU; another number gives other last bits.

    Raises
    ------
    ValueError
        If the network lacks a type, or nothing is left that marks an object.
    """

    stride = STRIDE

    def __init__(
        self,
        network: IICats,
        intensity: tuple[float, float] = (0, 255),
        types: Sequence[str] | None = None,
        masks: bool = True,
        affinity_input: bool = True,
        threads: int = 1,
    ) -> None:
        self.network = network
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.types = network.types if types is None else tuple(types)
        missing = set(self.types) - set(network.types)
        if missing:
            raise ValueError(
                f"types: expected some of {', '.join(network.types)}; got {', '.join(missing)}"
            )
        self.given = masks and network.last_masks > 0
        self.own = network.few_shot and OWN in self.types
        if not (self.given or self.own):
            raise ValueError(f"expected previous masks or type {OWN}; nothing marks an object")
        self.intensity, self.threads = intensity, threads
        self.affinity_input = affinity_input
        self.memory = network.memory if self.own else max(1, network.last_masks)
        self.forget()

    def forget(self) -> None:
        """Drop all state; filters are fitted again from the memories."""
        self._sections: list[Seen] = []
        self._shape = (0, 0)
        self._filters = OfflineFilters(self.network)
        self._pairs: dict[bytes, tuple[Tensor, Tensor]] = {}

    def see(self, section: Section) -> None:
        """Compute the features of a section, and follow the filters of offline types."""
        self._shape = (section.image.shape[0], section.image.shape[1])
        with torch.inference_mode(), reproducible(self.threads, fill=False):
            image = _padded(normalise(section.image, *self.intensity)[None])
            layers = {
                kind: _padded(np.divide(layer, 255, dtype=np.float32))
                for kind, layer in section.offline.items()
            }
            affinities = layers.get("d") if self.affinity_input else None
            shared = self.network.sections(image, affinities)
            self._sections.append(Seen(shared, self._offline(shared, layers)))
        del self._sections[: -self.memory - 1]

    def _offline(self, shared: Sections, layers: Mapping[str, Tensor]) -> Tensor | None:
        if not self.network.few_shot:
            return None
        encoded = {
            kind: self.network.pairs(kind, layers[kind])
            for kind in self.types
            if kind != OWN and kind in layers
        }
        return self._filters.see(shared.target, encoded)

    def masks(self, objects: Sequence[Remembered]) -> list[np.ndarray]:
        """Probabilities of each object in the current section, float32 in its window.

        Raises
        ------
        ValueError
            If no section was seen, or a window is not on multiples of `stride`.
        """
        if not self._sections:
            raise ValueError("expected a section that was seen; call see first")
        used: dict[bytes, tuple[Tensor, Tensor]] = {}
        with torch.inference_mode(), reproducible(self.threads, fill=False):
            masks = [self._mask(each, used) for each in objects]
        self._pairs = used
        return masks

    def _mask(self, each: Remembered, used: dict[bytes, tuple[Tensor, Tensor]]) -> np.ndarray:
        _, height, width = each.masks.shape
        if any(n % self.stride for n in (*each.origin, height, width)):
            raise ValueError(
                f"object {each.id}: expected a window on multiples of {self.stride}; got "
                f"{each.origin} and {(height, width)}"
            )
        window = Window(each.origin, (height, width), self.network.target_stride)
        current = self._sections[-1]
        encoding = None
        if self.network.few_shot:
            own = self._own_response(each, window, used) if self.own else None
            offline = None if current.offline is None else window.of_target(current.offline)
            encoding = self.network.gates(own, offline, 1, window.target_size)
        logits = self.network.decode(window.of(current.shared), encoding, self._given(each))
        probability: np.ndarray = logits[0, 0].sigmoid().numpy()
        return probability

    def _given(self, each: Remembered) -> Tensor:
        """The previous masks that the decoder reads, (1, M, H, W): the newest last."""
        count = self.network.last_masks
        shape = each.masks.shape[1:]
        if not self.given:
            return torch.full((1, count, *shape), 0.5)
        newest = [each.masks[max(0, len(each.masks) - back)] for back in range(count, 0, -1)]
        return _last(torch.from_numpy(np.stack(newest).astype(np.float32) / 255)[None])

    def _own_response(
        self, each: Remembered, window: Window, used: dict[bytes, tuple[Tensor, Tensor]]
    ) -> Tensor | None:
        """The response of filters fitted to the object's masks; None without any in memory."""
        memory: list[Pair] = []
        ages = []
        for mask, age in zip(each.masks, each.ages, strict=True):
            if age >= len(self._sections) or age > self.memory:
                continue
            key = repr(mask.shape).encode() + mask.tobytes()
            pair = used.get(key) or self._pairs.get(key) or self._encoded(mask)
            used[key] = pair
            before = self._sections[-1 - int(age)].shared
            memory.append((columns(window.of_target(before.target)), *pair))
            ages.append(int(age))
        if not memory:
            return None
        target = window.of_target(self._sections[-1].shared.target)
        return self.network.own_response(joined_support(memory, ages), target)

    def _encoded(self, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        probability = _last(torch.from_numpy(mask.astype(np.float32) / 255)[None, None])
        return self.network.pairs(OWN, probability)

    def first_masks(self, boxes: Sequence[tuple[int, int, int, int]]) -> list[np.ndarray]:
        """Probabilities of the object in each box of the current section, float32 (Y, X).

        Raises
        ------
        NotImplementedError
            If the network has no box extractor.
        """
        if not self.network.few_shot:
            raise NotImplementedError("a network without a learner has no box extractor")
        current = self._sections[-1].shared
        masks = []
        with torch.inference_mode(), reproducible(self.threads, fill=False):
            for box in boxes:
                window = Window.around(box, self.network.target_stride, current.size)
                masks.append(window.pasted(self._box_mask(box, window), self._shape))
        return masks

    def _box_mask(self, box: tuple[int, int, int, int], window: Window) -> Tensor:
        section = window.of(self._sections[-1].shared)
        y, x = window.origin
        local = torch.tensor([[box[0] - y, box[1] - x, box[2] - y, box[3] - x]])
        encoding = self.network.box(section.target, box_masks(local, window.sides))
        nothing = torch.full((1, self.network.last_masks, *window.sides), 0.5)
        probability: Tensor = self.network.decode(section, encoding, nothing)[0, 0].sigmoid()
        return probability


class Window(NamedTuple):
    """A window of a section, on multiples of `STRIDE`; beyond the section there are zeros."""

    origin: tuple[int, int]
    sides: tuple[int, int]
    target_stride: int

    @classmethod
    def around(
        cls, box: tuple[int, int, int, int], target_stride: int, shape: tuple[int, int]
    ) -> Window:
        """The smallest window with at least half a stride around a box."""
        half = STRIDE // 2
        first = [max(0, n - half) // STRIDE * STRIDE for n in box[:2]]
        last = [
            -(-min(n + half, side) // STRIDE) * STRIDE
            for n, side in zip(box[2:], shape, strict=True)
        ]
        return cls((first[0], first[1]), (last[0] - first[0], last[1] - first[1]), target_stride)

    @property
    def target_size(self) -> tuple[int, int]:
        """Sides at the target stride."""
        return self.sides[0] // self.target_stride, self.sides[1] // self.target_stride

    def of_target(self, x: Tensor) -> Tensor:
        """The window of a tensor (1, C, y, x) at the target stride."""
        return self._cut(x, self.target_stride)

    def of(self, sections: Sections) -> Sections:
        """The window of a section's shared parts."""
        height = sections.size[0]
        parts = [self._cut(part, height // part.shape[2]) for part in sections.shared]
        return Sections(parts, self.of_target(sections.target), self.sides)

    def _cut(self, x: Tensor, stride: int) -> Tensor:
        (top, left), (height, width) = (
            (side[0] // stride, side[1] // stride) for side in (self.origin, self.sides)
        )
        inside = x[..., max(0, top) : top + height, max(0, left) : left + width]
        above, before = max(0, -top), max(0, -left)
        below, after = (
            height - above - inside.shape[2],
            width - before - inside.shape[3],
        )
        if above or before or below or after:
            inside = torch.nn.functional.pad(inside, (before, after, above, below))
        return _last(inside)

    def pasted(self, mask: Tensor, shape: tuple[int, int]) -> np.ndarray:
        """A mask of the window in a whole section of zeros, float32 (Y, X)."""
        y, x = self.origin
        whole = np.zeros(shape, np.float32)
        part = mask.numpy()[: shape[0] - y, : shape[1] - x]
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return whole


def _padded(layer: np.ndarray) -> Tensor:
    """A layer (C, Y, X) as a tensor (1, C, Y', X'), its edge repeated up to multiples of 32."""
    beyond = [(0, -n % STRIDE) for n in layer.shape[1:]]
    return _last(torch.from_numpy(np.pad(layer, [(0, 0), *beyond], mode="edge"))[None])


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
