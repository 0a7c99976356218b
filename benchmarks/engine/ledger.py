"""Time to read a ledger.

    python -m benchmarks.engine.ledger [BLOCKS] [BLOCKS ON S3]      10,000,000 and 1,000,000

A marker names a range of blocks. A worker writes one every two seconds of work, or for every range
of a task. Ten blocks per marker is the pessimistic case: a block took a fifth of a second, or a
task consisted of ten blocks.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.io.servers import BUCKET, s3_server
from volflow.io.run.ledger import Ledger

JOB = "fragments/0123456789abcdef/map"
SPANS = (10, 100)  # blocks per marker


class ReadTime(NamedTuple):
    """Wall time and CPU time of this process in seconds; other processes affect only the first."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.clock:.1f} s (CPU {self.cpu:.1f} s)"


def on_disk(blocks: int, span: int, folder: Path) -> ReadTime:
    """Time to read a ledger on disk; its markers are empty files, because only names are read."""
    done = folder / "ledger" / JOB / "done"
    done.mkdir(parents=True)
    for start in range(0, blocks, span):
        os.close(os.open(done / f"{start}-{start + span}", os.O_CREAT | os.O_WRONLY))
    return _read(str(folder), blocks)


def on_s3(blocks: int, span: int) -> tuple[float, ReadTime]:
    """Seconds to fill a ledger on a local S3 server, and the time to read it."""
    os.environ.update(AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret")
    with s3_server() as endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        run, start = f"s3://{BUCKET}/by_{span}", time.perf_counter()
        ledger = Ledger(run)
        for first in range(0, blocks, span):
            ledger.mark_done(JOB, first, first + span, {})
        return time.perf_counter() - start, _read(run, blocks)


def _read(run: str, blocks: int) -> ReadTime:
    wall, cpu = time.perf_counter(), time.process_time()
    assert Ledger(run).done(JOB) == [(0, blocks)]
    return ReadTime(time.perf_counter() - wall, time.process_time() - cpu)


def main() -> None:
    disk = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    remote = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    for span in SPANS:
        with tempfile.TemporaryDirectory() as folder:
            took = on_disk(disk, span, Path(folder))
        print(f"disk: {disk} blocks in {disk // span} markers: {took}", flush=True)
    for span in (100, 1000):
        filling, took = on_s3(remote, span)
        print(
            f"S3 (moto): {remote} blocks in {remote // span} markers: {took}, "
            f"written one by one in {filling:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
