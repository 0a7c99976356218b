"""Blocks against the slow reference, as long as you like: `python -m tests.soak.segment 10000`."""

from __future__ import annotations

import random
import sys

import numpy as np

from tests.cases import random_case


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    segments = wrong = merged = 0
    for number in range(seed, seed + count):
        draw = random.Random(number)
        voxels = draw.choice([60, 200, 500, 900])
        case = random_case(draw, voxels, horizon=draw.random() < 0.3)
        try:
            expected, actual = case.by_reference(), case.by_blocks()
        except Exception as error:
            wrong += 1
            print(f"case {number}: {type(error).__name__}: {error}: {case}", flush=True)
            continue
        segments += len(np.unique(expected))
        merged += bool(case.block < case.bounds.shape)
        if not np.array_equal(expected, actual):
            wrong += 1
            differ = int((expected != actual).sum())
            print(f"case {number}: {differ} voxels differ: {case}", flush=True)
    print(f"{count} cases ({merged} cut into blocks), {segments} labels, {wrong} wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
