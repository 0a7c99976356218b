"""What a run leaves behind for people: `overview.png`, and `report.html` that needs nothing else.

Beside them lies `summary.json`, the same numbers for programs.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from volflow.io.store import Store
from volflow.view.neuroglancer.layers import RunLayers, run_layers
from volflow.view.report.overview import Overview, overview
from volflow.view.report.timeline import timeline

logger = logging.getLogger(__name__)

SUMMARY, PICTURE, PAGE = "summary.json", "overview.png", "report.html"
SHOWN = 20  # failed blocks; all of them are in the summary
_TEMPLATE = Path(__file__).with_name("run_page.template.html")


def leave_report(run: str, summary: Mapping[str, Any], picture: bool = True) -> None:
    """Write the three files of a run that has ended, well or not.

    Whatever goes wrong here is logged and no more: a run does not fail for want of its picture.

    Parameters
    ----------
    run : str
        Folder or address.
    summary : mapping
        See `volflow.engine.monitor.run_summary.summary`.
    picture : bool
        Whether to draw; otherwise the page goes without.
    """
    try:
        store = Store(run)
        store.write_json(SUMMARY, summary)
        layers = run_layers(run)
        drawn = _drawn(layers) if picture else None
        png = drawn.png() if drawn else b""
        if png:
            store.write(PICTURE, png)
        store.write(PAGE, page(summary, layers, drawn, png).encode())
    except Exception as error:  # of many kinds: formats, codecs, stores, what a user's volume holds
        logger.warning("no report of %s: %s: %s", run, type(error).__name__, error)


def _drawn(layers: RunLayers) -> Overview | None:
    try:
        return overview(layers)
    except Exception as error:  # as above; the page is still worth having
        logger.warning("no picture of %s: %s: %s", layers.address, type(error).__name__, error)
        return None


def page(
    summary: Mapping[str, Any], layers: RunLayers, drawn: Overview | None = None, png: bytes = b""
) -> str:
    """The page, in one file: style and picture are in it, and it loads and runs nothing."""
    steps, failures = summary["steps"], summary["failures"]
    done = sum(step["done"] for step in steps)
    total = sum(step["total"] for step in steps)
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"volflow: {summary['run']}"),
        state=escape(state(summary)),
        tone="good" if summary["ok"] and not summary.get("unmet") else "bad",
        facts=_rows(
            ("run", summary["run"]),
            ("blocks", f"{done} of {total} done"),
            ("bounds", f"{summary['bounds']} voxels z, y, x"),
            (
                "resolution",
                ", ".join(f"{side:g}" for side in summary["resolution"]) + " nm z, y, x",
            ),
            ("workers", summary["workers"]),
            ("seconds", f"{summary['seconds']:.1f}"),
            ("finished", summary["finished"]),
            ("volflow", summary["version"]),
        ),
        figure=_figure(drawn, png),
        results="".join(_result(name, found) for name, found in summary["results"].items()),
        steps="".join(_step(step) for step in steps),
        failures=_failures(summary["run"], failures),
        timeline=timeline(summary.get("history", {})),
        layers="".join(_layer(layer.name, layer.kind, layer.spec.path) for layer in layers.layers),
        run=escape(str(summary["run"])),
        pipeline=escape((Store(layers.address).read("pipeline.yaml") or b"").decode()),
    )


def state(summary: Mapping[str, Any]) -> str:
    """What became of the run, in a few words."""
    if summary["ok"]:
        unmet = summary.get("unmet", ())
        return f"done, but not as required: {'; '.join(unmet)}" if unmet else "done"
    if summary["interrupted"]:
        return "interrupted; what is done stays done"
    failed = len(summary["failures"])
    return f"{failed} block{'' if failed == 1 else 's'} failed"


# --- parts of the page ---------------------------------------------------------------------------


def _row(*cells: object, kind: str = "td") -> str:
    inside = "".join(f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells)
    return f"<tr>{inside}</tr>\n"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _rows(*pairs: tuple[str, object]) -> str:
    return "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>\n" for name, value in pairs
    )


def _figure(drawn: Overview | None, png: bytes) -> str:
    if drawn is None:
        return ""
    shown = " over ".join(filter(None, (drawn.labels, drawn.image)))
    z, y, x = drawn.middle
    caption = f"{shown} through z {z}, y {y}, x {x}; a pixel is {drawn.pixel_nm:.3g} nm"
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _step(step: Mapping[str, Any]) -> str:
    seconds, voxels = step["seconds"], step["voxels"]
    speed = f"{voxels / seconds / 1e6:.2f}" if voxels and seconds > 0 else ""
    numbers = [step[name] for name in ("total", "done", "already", "failed", "left")]
    return _row(step["name"], *numbers, f"{seconds:.2f}", voxels or "", speed)


def _result(name: str, found: Mapping[str, Any]) -> str:
    """A step's result: its numbers as a table, and where whatever else it holds is."""
    plain = {key: v for key, v in sorted(found.items()) if not isinstance(v, dict | list)}
    rows = [(key, f"{v:.6g}" if isinstance(v, float) else v) for key, v in plain.items()]
    rest = [key for key in sorted(found) if key not in plain]
    more = f"<p>{escape(', '.join(rest))}: in results/{escape(name)}.json</p>" if rest else ""
    return f"<h2>{escape(name)}</h2>\n<table>{_rows(*rows)}</table>{more}\n"


def _failures(run: str, failures: Sequence[Mapping[str, Any]]) -> str:
    if not failures:
        return ""
    head = _row("step", "pass", "block", "reason", "error", kind="th")
    more = len(failures) - SHOWN
    note = f"<p>and {more} more, in {SUMMARY}</p>" if more > 0 else ""
    rows = "".join(_failure_rows(run, failures[:SHOWN]))
    return f"<h2>failed blocks</h2>\n<table>{head}{rows}</table>{note}\n"


def _failure_rows(run: str, failures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in failures:
        place = " ".join(str(number) for number in each["index"])
        yield _row(each["step"], each["sweep"], place, each["reason"], each["error"])
        alone = f"volflow block {run} {each['step']} {place} --phase {each['phase']}"
        yield f'<tr><td colspan="5"><code>{escape(alone)}</code></td></tr>\n'


def _layer(name: str, kind: str, path: str) -> str:
    cells = f"<td>{escape(name)}</td><td>{escape(kind)}</td><td><code>{escape(path)}</code></td>"
    return f"<tr>{cells}</tr>\n"
