"""A run through a store that fails: `python -m tests.soak_stores FAULTS [SEED] [RUNS]`.

A proxy before an S3 server on this machine answers 503, delays, drops and truncates, also without
saying how much should have come. Each run is repeated until all is done; what it left is compared,
byte by byte, with what the same run leaves on a disk.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter

from tests.io.faulty_proxy import FaultyProxy
from tests.io.remote_runs import objects, run_to_the_end, small_run, wrongly_marked
from tests.io.servers import BUCKET, s3_server
from volflow.engine.run import execute
from volflow.io import address


def main() -> int:
    faults, *rest = (int(argument) for argument in sys.argv[1:])
    seed, runs = rest[0] if rest else 0, rest[1] if len(rest) > 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        execute(small_run(f"{folder}/run"))
        expected = objects(f"{folder}/run")
    os.environ.update(AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret")
    wrong = 0
    with s3_server() as endpoint:
        for number in range(seed, seed + runs):
            wrong += not disturbed(endpoint, number, faults, expected)
    return 1 if wrong else 0


def disturbed(endpoint: str, seed: int, faults: int, expected: dict[str, bytes | None]) -> bool:
    """Whether a run through so many faults comes to the same bytes; tells what happened."""
    run = f"s3://{BUCKET}/soak_{seed}"
    with FaultyProxy(endpoint, seed, faults, often=0.25) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        address.open_kvstore.cache_clear()
        told = []
        while proxy.faults:  # what is done is not done again, so the volumes are made anew
            told += run_to_the_end(small_run(run))[1]
            bad = wrongly_marked(small_run(run))
            if proxy.faults:
                same = objects_or_none(run) in (None, expected)
                if not same or bad:
                    break
                run += "_"
        proxy.faults = 0
        same, bad = objects(run) == expected, wrongly_marked(small_run(run))
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(proxy.injected()).items()))
        print(f"seed {seed}: {len(proxy.injected())} faults in {len(proxy.log)} requests ({kinds})")
        print(f"  told {len(told)} times, resumed; same bytes: {same}; wrongly marked: {bad}")
        for text in sorted({text[:150] for text in told}):
            print(f"    {text}", flush=True)
        return same and not bad


def objects_or_none(run: str) -> dict[str, bytes | None] | None:
    """What a run left, None where the store fails while it is looked at."""
    from volflow.errors import StorageError

    try:
        return objects(run)
    except StorageError:
        return None


if __name__ == "__main__":
    sys.exit(main())
