"""What a horizon costs in quality and saves in memory, beside the exact result.

    python -m benchmarks.horizon        prints one table (Markdown)

The whole FIB-25 slab in blocks of 32³, scored against its truth by the shipped pipeline. The
baseline's network saw sections 0-150, so compare rows with one another, not with other networks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import volflow
from benchmarks.data import AFFINITY, RESOLUTION, labels
from volflow.engine.api import make_plan
from volflow.engine.ranges import job_path
from volflow.io.ledger import Ledger

SIDES = (None, 128, 64, 32)


def most_passed(options: list[str]) -> int:
    """Bytes that the largest node of the agglomeration passed up."""
    plan = make_plan("segment_and_score", overrides=options)
    ledger = Ledger(plan.pipeline.run)
    bodies = [c for job in plan.step("agglomerate").jobs for c in ledger.costs(job_path(job))]
    return int(max(body.get("max.passed_bytes", 0) for body in bodies))


def main() -> None:
    print("| horizon | VI split | VI merge | VI | ARAND | most passed up, MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for side in SIDES:
            options = [
                f"run={run}",
                f"volumes.affinity.path={AFFINITY}",
                f"volumes.affinity.resolution={list(RESOLUTION)}",
                f"volumes.truth.path={labels('neuron_ids')}",
                f"volumes.truth.resolution={list(RESOLUTION)}",
                "block=[32,32,32]",
                f"steps.agglomerate.horizon={side or 'null'}",
            ]
            result = volflow.run("segment_and_score", overrides=options, cluster="local")
            assert result.ok
            scores = result.results["score"]
            numbers = [scores[name] for name in ("vi_split", "vi_merge", "vi", "arand")]
            row = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {side or 'exact'} | {row} | {most_passed(options) / 2**20:.2f} |", flush=True)


if __name__ == "__main__":
    main()
