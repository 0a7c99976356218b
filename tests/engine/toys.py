"""Small stages that behave, misbehave and leave traces, for the tests of the engine."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from volflow.core.block_progress import report_parts
from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import (
    Columns,
    Group,
    Grouping,
    Layer,
    PreviousRound,
    Record,
    Reduction,
    Stage,
    Up,
)


class Nothing(Stage):
    """Neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:
        return {}


class Index(Stage):
    """Writes at each voxel a number that encodes its position.

    Blocks of layer `held_from` and behind wait while there is a file `held_by`: so a test meets a
    run half way, however fast or slow either of them is.
    """

    trace: str = ""
    seconds: float = 0.0
    held_by: str = ""
    held_from: int = 2

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"index": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block) -> dict[str, Any]:
        if self.trace:
            name = f"{'-'.join(map(str, block.index))}.{os.getpid()}.{time.time_ns()}"
            (Path(self.trace) / name).touch()
        time.sleep(self.seconds)
        report_parts(3, 8)
        while self.held_by and block.index[0] >= self.held_from and Path(self.held_by).exists():
            time.sleep(0.01)
        z, y, x = np.indices(block.write.shape)
        a, b, c = block.write.start
        return {"index": ((z + a) * 10_000 + (y + b) * 100 + x + c + 1).astype("uint32")}


class Double(Stage):
    """Twice its input."""

    times: int = 2

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"double": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block, *, index: np.ndarray) -> dict[str, Any]:
        return {"double": (index * self.times).astype("uint32")}


class Blur(Stage):
    """Sum over the 3x3x3 neighbourhood: what is wrong with a halo shows."""

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"blur": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block, *, index: np.ndarray) -> dict[str, Any]:
        padded = np.pad(index.astype("uint32"), 1)
        total = np.zeros(index.shape, "uint32")
        for z in range(3):
            for y in range(3):
                for x in range(3):
                    depth, height, width = index.shape
                    total += padded[z : z + depth, y : y + height, x : x + width]
        return {"blur": total}


class Cross(Stage):
    """Inputs around the block's faces and of the block alone, passed on unchanged."""

    wants: ClassVar[dict[str, Layer]] = {
        "faces": Layer(halo_region="faces"),
        "before": Layer(halo_region="before"),
        "after": Layer(halo_region="after"),
        "alone": Layer(halo_region="nothing"),
    }

    @property
    def halo(self) -> Triple:
        return (2, 1, 3)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"cross": Layer("uint32", 0, "segmentation")}

    def run(
        self,
        block: Block,
        *,
        faces: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        alone: np.ndarray,
    ) -> dict[str, Any]:
        assert faces.shape == before.shape == after.shape == block.read.shape
        for part in block.star(after=False)[1:]:
            at = part.within(block.read)
            np.testing.assert_array_equal(before[at], faces[at])
            assert not after[at].any()
        for part in block.star(before=False)[1:]:
            at = part.within(block.read)
            np.testing.assert_array_equal(after[at], faces[at])
            assert not before[at].any()
        for half in (before, after):
            np.testing.assert_array_equal(block.crop(half), alone)
        assert alone.shape == block.write.shape
        reach = 2 * np.array(self.halo) + 1
        total = np.zeros_like(alone)
        for axis in range(3):
            for step in range(reach[axis]):
                place = list(block.write.within(block.read))
                length = block.write.shape[axis]
                place[axis] = slice(step, step + length)
                total += faces[tuple(place)]
        corners = faces.copy()
        for part in block.star():
            corners[part.within(block.read)] = 0
        assert not corners.any()
        return {"cross": total + 7 * alone}


class Poison(Stage):
    """Ends badly, in one of many ways, at chosen blocks."""

    raises: tuple[Triple, ...] = ()
    segfaults: tuple[Triple, ...] = ()
    exits: tuple[Triple, ...] = ()
    hangs: tuple[Triple, ...] = ()
    eats: tuple[Triple, ...] = ()
    killed: tuple[Triple, ...] = ()
    cured_by: str = ""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"index": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block) -> dict[str, Any]:
        if not (self.cured_by and Path(self.cured_by).exists()):
            self.misbehave(block.index)
        return Index().run(block)

    def misbehave(self, index: Triple) -> None:
        if index in self.raises:
            raise ArithmeticError(f"block {index} is poison")
        if index in self.segfaults:
            ctypes.string_at(0)
        if index in self.exits:
            os._exit(7)
        if index in self.hangs:
            time.sleep(3600)
        if index in self.eats:
            hoard = []
            while True:
                hoard.append(np.ones(2**20))
                time.sleep(0.01)
        if index in self.killed:
            os.kill(os.getpid(), signal.SIGKILL)


class Forking(Stage):
    """Forks a process that lives for two minutes in block 1, which then may end badly."""

    helper: str = ""
    end: str = "nothing"

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"index": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block) -> dict[str, Any]:
        if block.index == (0, 0, 1):
            pid = os.fork()
            if not pid:
                time.sleep(120)
                os._exit(0)
            with open(self.helper, "a") as file:
                file.write(f"{pid}\n")
            if self.end == "exit":
                os._exit(7)
            if self.end == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        return Index().run(block)


class Liar(Stage):
    """Declares one thing and returns another."""

    lie: str = "shape"

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"index": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block) -> dict[str, Any]:
        right = np.zeros(block.write.shape, "uint32")
        lies: dict[str, dict[str, Any]] = {
            "shape": {"index": right[:-1]},
            "dtype": {"index": right.astype("int64")},
            "name": {"other": right},
        }
        return lies[self.lie]


class Total(Reduction):
    """The sum of a volume, up a pyramid; on the way down each block learns it."""

    wants: ClassVar[dict[str, Layer]] = {"index": Layer(kind="segmentation")}

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("first", "second")

    @property
    def descends(self) -> bool:
        return True

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"total": Columns((("sum", "int64"), ("seen", "int64")))}

    def leaf(
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        index: np.ndarray,
    ) -> Up:
        total = np.array([index.sum()], "int64")
        if previous is not None:
            received = previous.received if previous.received is not None else previous.retained
            assert np.array_equal(previous.retained["own"], total)
            return Up({"sum": received["sum"] - total}, {"own": total, "sum": total * 0})
        return Up({"sum": total}, {"own": total, "sum": total})

    def join(self, block: Block, round_name: str, children: Any) -> Up:
        total = sum(child["sum"] for child in children)
        return Up({"sum": total}, {"sum": total, "children": np.array([len(children)])})

    def split(
        self, block: Block, round_name: str, remaining: Record, received: Record | None
    ) -> Any:
        total = remaining["sum"] if received is None else received["sum"]
        return [{"sum": total}] * int(remaining["children"][0])

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, Any]:
        received = previous.received if previous.received is not None else previous.retained
        return {"total": {"sum": received["sum"], "seen": previous.retained["own"]}}

    def result(self, roots: Any) -> dict[str, Any]:
        return {"sum": int(roots[0]["sum"][0])}


class Alone(Total):
    """The same, with a halo that its input is not read over."""

    wants: ClassVar[dict[str, Layer]] = {"index": Layer(kind="segmentation", halo_region="nothing")}

    @property
    def halo(self) -> Triple:
        return (1, 2, 3)


class Digits(Grouping):
    """Frequency of each number modulo `base`, and the largest count of odd and even ones."""

    base: int = 7
    parts: int = 3

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("digit", "parity")

    def key(self, round_name: str) -> tuple[str, ...]:
        return (round_name,)

    def partitions(self, bounds: Box) -> int:
        return self.parts

    def rows(  # type: ignore[override]
        self, block: Block, *, index: np.ndarray, mask: np.ndarray | None
    ) -> Record:
        values = index[mask] if mask is not None else index
        digit, count = np.unique(values % self.base, return_counts=True)
        return {"digit": digit.astype(np.int64), "count": count}

    def combine(self, round_name: str, rows: Record) -> Record:
        digit, at = np.unique(rows["digit"], return_inverse=True)
        count = np.zeros(len(digit), np.int64)
        np.add.at(count, at, rows["count"])
        actual = {"digit": digit, "count": count}
        return actual if round_name == "digit" else {**actual, "parity": digit % 2}

    def group(self, round_name: str, rows: Record) -> Group:
        if round_name == "digit":
            return Group(rows, {**rows, "parity": rows["digit"] % 2} if rows else {})
        actual: Record = {"parity": np.zeros(0, np.int64), "most": np.zeros(0, np.int64)}
        if rows:
            parity, at = np.unique(rows["parity"], return_inverse=True)
            most = np.zeros(len(parity), np.int64)
            np.maximum.at(most, at, rows["count"])
            actual = {"parity": parity, "most": most}
        return Group(actual, {})

    def result(self, actual: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        def pairs(round_name: str, key: str, value: str) -> dict[str, int]:
            rows = [(int(k), int(v)) for part in actual[round_name] if part
                    for k, v in zip(part[key], part[value], strict=True)]  # fmt: skip
            assert len(dict(rows)) == len(rows), "a key in two partitions"
            return {str(k): v for k, v in sorted(rows)}

        return {
            "counts": pairs("digit", "digit", "count"),
            "most": pairs("parity", "parity", "most"),
        }

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return ["too many"] if self.base == 8 else []
