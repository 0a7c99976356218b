"""A run through a store that fails: `python -m tests.soak.stores FAULTS [SEED] [RUNS] [s3|gs]`.

A proxy before a server on this machine does all that `faulty_proxy` knows. Each run is repeated
until all is done, and again under another name until all faults were met. After each attempt
every block that is marked is read: while the store fails it may be an error, and never anything
but what the same run leaves on a disk; then it has to be there. In the end every object is
compared.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter

import numpy as np

from tests.io.faulty_proxy import KINDS, RARE, FaultyProxy
from tests.io.remote_runs import objects, small_run
from tests.io.servers import BUCKET, gcs_server, s3_server
from volflow.core.stage import Grouping, Reduction
from volflow.engine.driver import execute
from volflow.engine.job import Plan
from volflow.engine.worker.block_range import job_path
from volflow.errors import StorageError
from volflow.io import address
from volflow.io.run.ledger import Ledger
from volflow.io.volume import Volume

SILENT = 2  # seconds after which a silent connection is given up
ATTEMPTS = 60
OFTEN = 0.06
Objects = dict[str, bytes | None]


def main() -> int:
    *numbers, store = sys.argv[1:] if sys.argv[-1] in ("s3", "gs") else (*sys.argv[1:], "s3")
    faults, seed, runs = [int(number) for number in numbers] + [0, 1][len(numbers) - 1 :]
    os.environ["TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS"] = str(SILENT)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        disk = small_run(f"{folder}/run", shards=True)
        execute(disk)
        expected = objects(f"{folder}/run")
        with s3_server() if store == "s3" else gcs_server() as endpoint:
            for number in range(seed, seed + runs):
                wrong += not disturbed(store, endpoint, number, faults, disk, expected)
    return 1 if wrong else 0


def disturbed(
    store: str, endpoint: str, seed: int, faults: int, disk: Plan, expected: Objects
) -> bool:
    """Whether a run survives so many faults; prints what happened."""
    run, errors, complaints = f"{store}://{BUCKET}/soak_{seed}", Counter[str](), []
    kinds = (*KINDS, *RARE)
    with FaultyProxy(endpoint, seed, faults, OFTEN, kinds, silent=2 * SILENT) as proxy:
        ask(store, proxy.endpoint)
        runs = attempts = checked = 0
        while proxy.faults:
            run, runs = f"{run}_", runs + 1
            plan = small_run_at_last(run, errors)
            for _ in range(ATTEMPTS):
                attempts += 1
                ok = attempt(plan, errors)
                complaints += [f"read as {text}" for text in marked(plan, disk, True)[1]]
                left, proxy.faults = proxy.faults, 0
                count, bad = marked(plan, disk, False)
                checked += count
                complaints += [f"marked as {text}" for text in bad]
                if ok and objects(run) != expected:
                    complaints.append(f"{run}: other objects than on a disk")
                proxy.faults = left
                if ok:
                    break
            else:
                complaints.append(f"{run}: not done after {ATTEMPTS} attempts")
                break
        met, log = Counter(proxy.injected()), proxy.log
    print(f"{store}, seed {seed}: {met.total()} faults in {len(log)} requests, {runs} runs in")
    print(f"  {attempts} attempts, {checked} marked blocks read, {len(complaints)} wrong")
    print("  " + ", ".join(f"{number} {kind}" for kind, number in sorted(met.items())))
    for text, number in sorted(errors.items()):
        print(f"    reported {number} times: {text}")
    for text in complaints:
        print(f"  WRONG: {text}", flush=True)
    return not complaints


def ask(store: str, endpoint: str) -> None:
    """Have whatever is opened from now on be asked for at an endpoint."""
    if store == "s3":
        os.environ.update(AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret")
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    else:
        os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "emulator"
        os.environ["TENSORSTORE_GCS_HTTP_URL"] = endpoint
    address.open_kvstore.cache_clear()


def small_run_at_last(run: str, errors: Counter[str]) -> Plan:
    """The plan of a run; planning looks at what is there, and fails with the store."""
    while True:
        try:
            return small_run(run, shards=True)
        except (StorageError, ValueError) as error:
            errors[kind_of(str(error), run)] += 1


def attempt(plan: Plan, errors: Counter[str]) -> bool:
    """Whether a run finishes; counts the errors if it does not."""
    try:
        result = execute(plan)
    except StorageError as error:
        errors[kind_of(str(error), plan.pipeline.run)] += 1
        return False
    errors.update(kind_of(failure.error, plan.pipeline.run) for failure in result.failures)
    return result.ok


def kind_of(text: str, run: str) -> str:
    """The first line of an error, without the names of its objects."""
    line = text.splitlines()[0].replace(run, "RUN").replace(run.partition("//")[2], "RUN")
    return re.sub(r"[\d_]*\d", "N", re.sub(r"RUN[\w/.-]*", "RUN", line))[:120]


def marked(plan: Plan, disk: Plan, failing: bool) -> tuple[int, list[str]]:
    """The number of marked blocks, and those that differ from the ones on a disk.

    Of a failing store an error is an answer, too.
    """
    count, wrong = 0, []
    for step, same in zip(plan.steps, disk.steps, strict=True):
        if isinstance(step.stage, Grouping | Reduction):
            continue
        (job,), (target,), (there,) = step.jobs, step.targets, same.targets
        try:
            ranges = Ledger(job.run).done(job_path(job))
        except StorageError:
            assert failing
            continue
        for number in (n for start, stop in ranges for n in range(start, stop)):
            box, count = job.phase.grid[number].write, count + 1
            try:
                voxels = Volume.open(target.spec, own=True).read(box)
            except StorageError as error:
                if not failing:
                    wrong.append(f"{step.name} {box}: {error}")
                continue
            if not np.array_equal(voxels, Volume.open(there.spec, own=True).read(box)):
                wrong.append(f"{step.name} {box}: other voxels")
    return count, wrong


if __name__ == "__main__":
    sys.exit(main())
