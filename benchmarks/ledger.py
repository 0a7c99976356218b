"""How long a ledger takes to read: `python -m benchmarks.ledger [BLOCKS] [BLOCKS ON S3]`.

Markers name ranges of blocks, so a ledger is as long as its markers are many: a worker writes one
every two seconds of work, or every range of a task. Ten blocks to a marker is a pessimist's ledger:
each block took a fifth of a second or a task held ten.
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


class Spent(NamedTuple):
    """Seconds by the clock, and of this process's CPU, which a busy machine leaves alone."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.clock:.1f} s (CPU {self.cpu:.1f} s)"


def on_disk(blocks: int, span: int, folder: Path) -> Spent:
    """What reading a ledger on disk takes; markers are empty files, since names alone count."""
    done = folder / "ledger" / JOB / "done"
    done.mkdir(parents=True)
    for start in range(0, blocks, span):
        os.close(os.open(done / f"{start}-{start + span}", os.O_CREAT | os.O_WRONLY))
    return _read(str(folder), blocks)


def on_s3(blocks: int, span: int) -> tuple[float, Spent]:
    """Seconds of filling, and what reading takes, of a ledger on an S3 server of this machine."""
    os.environ.update(AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret")
    with s3_server() as endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        run, begun = f"s3://{BUCKET}/by_{span}", time.perf_counter()
        ledger = Ledger(run)
        for start in range(0, blocks, span):
            ledger.mark_done(JOB, start, start + span, {})
        return time.perf_counter() - begun, _read(run, blocks)


def _read(run: str, blocks: int) -> Spent:
    begun = time.perf_counter(), time.process_time()
    assert Ledger(run).done(JOB) == [(0, blocks)]
    return Spent(time.perf_counter() - begun[0], time.process_time() - begun[1])


def main() -> None:
    disk = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    remote = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    for span in SPANS:
        with tempfile.TemporaryDirectory() as folder:
            spent = on_disk(disk, span, Path(folder))
        print(f"disk: {disk} blocks in {disk // span} markers: {spent}", flush=True)
    for span in (100, 1000):
        filling, spent = on_s3(remote, span)
        print(
            f"S3 (moto): {remote} blocks in {remote // span} markers: {spent}, "
            f"written one by one in {filling:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
