"""From affinities to neurons in Python: make a synthetic volume, segment it, score it.

    python examples/first_run.py [--cluster local] [--size 96]

The same as `volflow demo`, in three calls of `volflow.run`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import volflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="none")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--out", default=tempfile.gettempdir() + "/volflow-first-run")
    options = parser.parse_args()
    synthetic, segmented = Path(options.out) / "synth", Path(options.out) / "segment"

    # An image with affinities and an exact truth, computed block by block.
    volflow.run(
        "synth",
        cluster=options.cluster,
        bounds=",".join([f"0:{options.size}"] * 3),
        overrides=[f"run={synthetic}"],
    )
    # The bundled pipeline, with the address of the affinities and the run folder.
    volflow.run(
        "segment",
        cluster=options.cluster,
        overrides=[f"run={segmented}", f"volumes.affinity.path=precomputed://{synthetic}/affinity"],
    )
    # A pipeline can be a dict instead of a file.
    result = volflow.run(
        {
            "run": f"{options.out}/score",
            "volumes": {
                "segmentation": {"path": f"precomputed://{segmented}/segmentation"},
                "truth": {"path": f"precomputed://{synthetic}/truth"},
            },
            "steps": [{"use": "score"}],
        },
        cluster=options.cluster,
    )
    score = result.results["score"]
    print(
        f"VI {score['vi']:.3f} bits: split {score['vi_split']:.3f}, merge {score['vi_merge']:.3f}"
    )
    print(f"ARAND {score['arand']:.3f}")


if __name__ == "__main__":
    main()
