"""The content of a run at its address, on a disk or on S3."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.soak.drivers import Blocks
from tests.soak.pipelines import bounds_of
from volflow.config.pipeline import VolumeSpec
from volflow.engine.monitor.event_log import read_events
from volflow.engine.monitor.events import RangeEnds, RunBegins
from volflow.io.address import Address
from volflow.io.run.lock import KEY
from volflow.io.store import Store
from volflow.io.volume import Volume

WITH_TIMES = ("ledger/", "events/", "logs/")
"""Folders with times and hosts in what they hold."""
OWNER = "volflow.owner."
_MARKER = re.compile(r"(.+)/done/(\d+)-(\d+)")


class Place:
    """The folder or address of a run."""

    def __init__(self, address: str) -> None:
        self.address, self.store = address, Store(address)
        self.local: Path | None = Address.parse(address).local

    def names(self) -> list[str]:
        """The names of all objects, relative to the address."""
        return self.store.list()

    def marked(self) -> Blocks:
        """The blocks that have a marker, by job."""
        blocks: Blocks = {}
        for name in self._markers():
            match = _MARKER.fullmatch(name)
            if match:
                numbers = range(int(match[2]), int(match[3]))
                blocks.setdefault(match[1], set()).update(numbers)
        return blocks

    def sums(self, top: bool = False) -> dict[str, str]:
        """A checksum of each file of the results, by name; with `top`, also of those in no folder.

        In a run those describe the run, and in a layer the layer.
        """
        names = [n for n in self.names() if (top or "/" in n) and not n.startswith(WITH_TIMES)]
        bodies = self.store.read_many(names)
        return {name: hashlib.md5(bodies[name]).hexdigest() for name in names if name in bodies}

    def written(self) -> dict[str, int]:
        """The times at which files were written, but for events; nothing on S3."""
        if self.local is None:
            return {}
        times = {}
        for path in self.local.rglob("*"):
            name = str(path.relative_to(self.local))
            if not name.startswith("events/") and name != KEY:
                with contextlib.suppress(OSError):
                    if path.is_file():
                        times[name] = path.stat().st_mtime_ns
        return times

    def sessions(self) -> set[str]:
        """The sessions of the event log."""
        return {name.partition("/")[0] for name in self.store.list("events/")}

    def digests(self) -> dict[str, str]:
        """The digest of each step, according to the outline."""
        outline = self.store.read_json("outline.json") or {"steps": []}
        return {step["name"]: step["digest"] for step in outline["steps"]}

    def holder(self) -> int:
        """The process that holds the run; 0: none."""
        body = self.store.read_json(KEY)
        return int(body["pid"]) if body else 0

    def ranges(self, pid: int) -> Iterator[tuple[str, range]]:
        """The ranges of blocks that a driver had run, with their jobs."""
        digests = self.digests()
        for session in sorted(self.sessions()):
            events = [event for _, event in read_events(self.address, session)]
            begins = [event for event in events if isinstance(event, RunBegins)]
            if any(event.pid == pid for event in begins):
                for event in events:
                    if isinstance(event, RangeEnds):
                        job = f"{event.step}/{digests.get(event.step)}/{event.phase}"
                        yield job, range(event.start, event.stop)

    def voxels(self, layer: str) -> str:
        """A checksum of the voxels of a layer."""
        spec = VolumeSpec(path=f"precomputed://{self.address}/{layer}")
        array = Volume.open(spec, own=True).read(bounds_of(self.address))
        return hashlib.md5(np.ascontiguousarray(array).tobytes()).hexdigest()

    def _markers(self) -> list[str]:
        """Names below the ledger; on a disk with fewer calls than any store makes."""
        if self.local is None:
            return self.store.list("ledger/")
        ledger = self.local / "ledger"
        return [str(path.relative_to(ledger)) for path in ledger.glob("*/*/*/done/*")]


def count(blocks: Blocks, but: Blocks | None = None) -> int:
    """The number of blocks, without some of them."""
    return sum(len(numbers - (but or {}).get(job, set())) for job, numbers in blocks.items())
