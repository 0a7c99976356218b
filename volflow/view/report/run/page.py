"""The files that a run leaves for readers: `overview.png`, and a self-contained `report.html`.

`summary.json` contains the same numbers for programs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from volflow.io.sealed import write_sealed
from volflow.io.store import Store
from volflow.view.layers import RunLayers, run_layers
from volflow.view.report.pages import data_url, render
from volflow.view.report.run.advice import advice
from volflow.view.report.run.kept import PAGE, PICTURE, SUMMARY, seal_of_report
from volflow.view.report.run.overview import Overview, overview
from volflow.view.report.run.segments import SegmentSizes, segment_sizes
from volflow.view.report.run.timeline import timeline
from volflow.view.report.score.document import is_score
from volflow.view.report.score.metrics import HEADLINES, headlines, numbers

logger = logging.getLogger(__name__)

SHOWN = 20  # failed blocks; all of them are in the summary


def leave_report(run: str, summary: Mapping[str, Any], picture: bool = True) -> dict[str, Any]:
    """Write the three files of a run that has ended, successfully or not.

    Errors are logged and not raised: a run does not fail for want of a report.

    Parameters
    ----------
    run : str
        Folder or address.
    summary : mapping
        See `volflow.engine.monitor.run_summary.summary`.
    picture : bool
        Whether to draw the overview and count segments, which reads volumes.

    Returns
    -------
    dict
        The fields of `SegmentSizes`, for JSON, with the sentences of `advice`, which are also the
        summary's `segments`; empty if no segments were counted.
    """
    segments: dict[str, Any] = {}
    try:
        store = Store(run)
        write_sealed(store, SUMMARY, summary)
        layers = run_layers(run)
        drawn = _overview(layers) if picture else None
        sizes = _segment_sizes(layers) if picture else None
        if sizes:
            segments = {**asdict(sizes), "advice": advice(sizes, layers.pipeline)}
        png = drawn.png() if drawn else b""
        if png:
            store.write(PICTURE, png)
        text = page(summary, layers, drawn, png, sizes).encode()
        store.write(PAGE, text)
        report = seal_of_report(store, summary, text, png)
        write_sealed(store, SUMMARY, {**summary, "segments": segments, "report": report})
    except Exception as error:  # formats, codecs, stores, and whatever a user's volume contains
        logger.warning("no report of %s: %s: %s", run, type(error).__name__, error)
    return segments


def page(
    summary: Mapping[str, Any],
    layers: RunLayers,
    drawn: Overview | None = None,
    png: bytes = b"",
    sizes: SegmentSizes | None = None,
) -> str:
    """The page as one self-contained HTML file, without scripts: first the results, then the run.

    Parameters
    ----------
    summary : mapping
        See `leave_report`.
    layers : RunLayers
    drawn, png : Overview or None, bytes
        The picture and its file.
    sizes : SegmentSizes or None
    """
    scores = {name: result for name, result in summary["results"].items() if is_score(result)}
    others = {name: result for name, result in summary["results"].items() if name not in scores}
    failures = summary["failures"]
    return render(
        "run_page.html",
        title=f"volflow: {summary['run']}",
        state=state(summary),
        good=summary["ok"] and not summary.get("unmet"),
        sizes=sizes,
        advice=advice(sizes, layers.pipeline) if sizes else (),
        scores=headlines(scores),
        more_scores=[n for n in numbers(scores) if n.key not in HEADLINES and n.value is not None],
        picture=data_url(png) if drawn else "",
        caption=_caption(drawn) if drawn else "",
        failures=[_failure(summary["run"], failure) for failure in failures[:SHOWN]],
        more_failures=max(0, len(failures) - SHOWN),
        results=[_result(name, result) for name, result in others.items()],
        facts=_facts(summary),
        steps=[_step(step) for step in summary["steps"]],
        timeline=timeline(summary.get("history", {})),
        layers=layers.layers,
        run=summary["run"],
        warnings=summary.get("warnings", ()),
        pipeline=(Store(layers.address).read("pipeline.yaml") or b"").decode(),
        summary=SUMMARY,
    )


def state(summary: Mapping[str, Any]) -> str:
    """The outcome of the run in a few words."""
    if summary["ok"]:
        unmet = summary.get("unmet", ())
        return f"done, but requirements are not met: {'; '.join(unmet)}" if unmet else "done"
    if summary["interrupted"]:
        return "interrupted; finished blocks are kept"
    failed = len(summary["failures"])
    return f"{failed} block{'' if failed == 1 else 's'} failed"


def _overview(layers: RunLayers) -> Overview | None:
    try:
        return overview(layers)
    except Exception as error:  # of as many kinds as above; the page is useful without a picture
        logger.warning("no picture of %s: %s: %s", layers.address, type(error).__name__, error)
        return None


def _segment_sizes(layers: RunLayers) -> SegmentSizes | None:
    try:
        return segment_sizes(layers)
    except Exception as error:  # as for the picture
        logger.warning("no sizes of %s: %s: %s", layers.address, type(error).__name__, error)
        return None


# --- parts of the page ---------------------------------------------------------------------------


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, object]]:
    done = sum(step["done"] for step in summary["steps"])
    total = sum(step["total"] for step in summary["steps"])
    sides = ", ".join(f"{side:g}" for side in summary["resolution"])
    return [
        ("run", summary["run"]),
        ("blocks", f"{done:,} of {total:,} done"),
        ("bounds", f"{summary['bounds']} voxels z, y, x"),
        ("resolution", f"{sides} nm z, y, x"),
        ("workers", summary["workers"]),
        ("time", _time(summary)),
        ("finished", summary["finished"]),
        ("volflow", summary["version"]),
    ]


def _time(summary: Mapping[str, Any]) -> str:
    """Time of this session, and of all if there were several."""
    text, history = f"{summary['seconds']:.1f} s", summary.get("history", {})
    if history.get("sessions", 1) < 2:
        return text
    total = sum(step["all_seconds"] for step in summary["steps"])
    return f"{text}; {total:.1f} s in all {history['sessions']} sessions"


def _caption(drawn: Overview) -> str:
    layers = " over ".join(filter(None, (drawn.labels, drawn.image)))
    z, y, x = drawn.middle
    return f"{layers}: planes through voxel z {z:,}, y {y:,}, x {x:,}"


def _step(step: Mapping[str, Any]) -> Sequence[object]:
    """The cells of a step's row; the last three are sums over all sessions."""
    seconds = step["all_seconds"]
    voxels = step["extent"] * step["done"] // max(1, step["total"])
    speed = f"{voxels / seconds / 1e6:.2f}" if voxels and seconds > 0 else ""
    counts = [f"{step[name]:,}" for name in ("total", "done", "already", "failed", "left")]
    times = (f"{step['seconds']:.2f}", f"{seconds:.2f}")
    return [step["name"], *counts, *times, f"{voxels:,}" if voxels else "", speed]


def _result(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """A step's result: its plain values, and the keys of all others."""
    plain = {key: v for key, v in sorted(result.items()) if not isinstance(v, dict | list)}
    return {
        "name": name,
        "rows": [(key, f"{v:.6g}" if isinstance(v, float) else v) for key, v in plain.items()],
        "rest": ", ".join(key for key in sorted(result) if key not in plain),
    }


def _failure(run: str, failure: Mapping[str, Any]) -> dict[str, Any]:
    """A failed block, with the command that runs it alone."""
    index = " ".join(str(number) for number in failure["index"])
    command = f"volflow block {run} {failure['step']} {index} --phase {failure['phase']}"
    return {**failure, "index": index, "command": command}
