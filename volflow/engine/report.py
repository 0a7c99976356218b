"""What a run has to say to those who did not watch it."""

from __future__ import annotations

import json

from volflow.core.geometry import triple
from volflow.engine.job import Failure
from volflow.io.ledger import Ledger
from volflow.io.store import Store


def failures(run: str) -> list[Failure]:
    """The failed blocks of a run, from its ledger alone: no volume is opened."""
    outline, ledger, found = Store(run).read("outline.json"), Ledger(run), []
    for step in json.loads(outline or b'{"steps": []}')["steps"]:
        for sweep, _ in step["passes"]:
            bodies = ledger.failed(f"{step['name']}/{step['digest']}/{sweep}")
            found += [
                Failure(
                    step["name"],
                    sweep,
                    triple(body["index"]),
                    body["reason"],
                    body["error"],
                    body["traceback"],
                )
                for _, body in sorted(bodies.items())
            ]
    return found
