"""The report of a run that was started again and ran no block: it stays as it is.

`summary.json` records what the report was made of and the checksums of its two other files. If all
of them are the same, the picture need not be drawn again, nor the segments be counted, which takes
most of the time of such a start.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from volflow.errors import StorageError
from volflow.io.run.stored_outline import NAME as OUTLINE
from volflow.io.run.stored_pipeline import NAME as PIPELINE
from volflow.io.sealed import read_sealed, write_sealed
from volflow.io.store import Store

SUMMARY, PICTURE, PAGE = "summary.json", "overview.png", "report.html"
SHOWN = ("ok", "version", "bounds", "resolution", "results", "unmet", "warnings", "failures")
"""Keys of the summary that a report depends on, apart from times."""


def kept_report(run: str, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `segments` of a report that is still right; its summary alone is written again.

    Parameters
    ----------
    run : str
        Folder or address.
    summary : mapping
        See `volflow.engine.monitor.run_summary.summary`.

    Returns
    -------
    dict or None
        As of `leave_report`; None if the report has to be made: a block was run since, another
        parameter is shown, or a file is missing or damaged.
    """
    if not summary["ok"]:
        return None
    store = Store(run)
    try:
        before = read_sealed(store, SUMMARY, None) or {}
        page, picture = (store.read(name) or b"" for name in (PAGE, PICTURE))
        report = seal_of_report(store, summary, page, picture)
        segments = before.get("segments")
        if before.get("report") != report or not isinstance(segments, dict):
            return None
        write_sealed(store, SUMMARY, {**summary, "segments": segments, "report": report})
    except StorageError:  # a damaged summary, or the store: then the report is made
        return None
    return segments


def seal_of_report(
    store: Store, summary: Mapping[str, Any], page: bytes, picture: bytes
) -> dict[str, str]:
    """The digest of what a report is made of, and the checksums of its files, for JSON."""
    shown = {name: summary.get(name) for name in SHOWN}
    steps = [(step["name"], step["total"]) for step in summary["steps"]]
    blocks_run = summary.get("history", {}).get("workers")  # by worker, in all sessions
    digest = hashlib.blake2b(json.dumps([shown, steps, blocks_run]).encode(), digest_size=8)
    for name in (OUTLINE, PIPELINE):
        digest.update(store.read(name) or b"")
    return {
        "content": digest.hexdigest(),
        "page": f"{zlib.crc32(page):08x}",
        "picture": f"{zlib.crc32(picture):08x}",
    }
