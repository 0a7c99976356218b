"""The soak: runs that are harmed, a line each, and a table of what came of them.

python -m tests.soak [COUNT [SEED]] [--kind KIND] [--executor EXECUTOR] [--pipeline PIPELINE]
                     [--lines FILE] [--keep FOLDER]

A seed chooses the kind of harm, the executor, the pipeline and the moment, as far as the machine
allows. A kind, and an executor such as `tcp` or `none s3`, can be given instead. With `--lines`, a
soak continues where it ended.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.integration import slurm_site
from tests.soak.case import Case, log_tail
from tests.soak.kinds import KINDS, Choice, chosen
from tests.soak.lab import Lab, open_lab
from tests.soak.processes import processes, send
from tests.soak.report import Line, read_lines, table


def main() -> int:
    """Run the soak; 1 if something went wrong."""
    options = parsed()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="volflow-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    lines = read_lines(Path(options.lines)) if options.lines else []
    done = {line.seed for line in lines}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    try:
        with open_lab(folder) as lab:
            for seed in sorted({*range(options.seed, options.seed + options.count)} - done):
                choice = chosen(seed, options.kind, options.executor, options.pipeline)
                line = harmed(lab, seed, choice)
                lines.append(line)
                print(line, flush=True)
                if options.lines:
                    with Path(options.lines).open("a") as file:
                        print(json.dumps(line._asdict()), file=file)
    finally:
        if not options.keep and not any(line.complaints for line in lines):
            shutil.rmtree(folder, ignore_errors=True)
        print("\n".join(table(lines)), flush=True)
    return 1 if any(line.complaints for line in lines) else 0


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=500)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), default="")
    parser.add_argument("--executor", default="")
    parser.add_argument("--pipeline", default="")
    parser.add_argument(
        "--lines", help="a file with a line of JSON for each run; seeds in it are not run again"
    )
    parser.add_argument("--keep", help="a folder for all files, which then stay")
    return parser.parse_args()


def harmed(lab: Lab, seed: int, choice: Choice) -> Line:
    """Harm one run, and check it."""
    started = time.monotonic()
    if choice.executor == "slurm" and (lacking := slurm_site.lacking()):
        return Line(seed, *choice, 0, 0, 0.0, [], f"skipped: {lacking}")
    case = Case(lab, seed, *choice)
    try:
        KINDS[choice.kind].run(case)
    except Exception as error:
        case.complain("harness", f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        for driver in case.drivers:
            driver.signal(signal.SIGKILL)
            driver.wait(60)
        send(processes(case.token), signal.SIGKILL)
    complaints = [tuple(each) for each in case.complaints]
    if complaints:
        print(log_tail(case.folder), file=sys.stderr, flush=True)
    else:
        shutil.rmtree(case.folder, ignore_errors=True)
    seconds = round(time.monotonic() - started, 1)
    return Line(seed, *choice, case.harmed, case.missed, seconds, complaints, case.note)


if __name__ == "__main__":
    sys.exit(main())
