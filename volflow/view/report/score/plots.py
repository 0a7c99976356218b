"""Curves of a scoring as PNG: split against merge errors, and run length, over thresholds.

matplotlib is imported on the first drawing, and needs no display. The colours are those of Okabe
and Ito, which remain distinct to colour-blind readers; markers differ in shape as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8a8a8a"
SIZE, DOTS = (6.4, 4.2), 150  # inches; dots per inch
EQUAL = (0.2, 0.4, 0.6, 0.8)  # of the way from the lower left corner to the upper right one
FAR = 4.0  # times the best VI: worse thresholds would squeeze the others into a corner
LABEL = (50.0, 26.0)  # pixels: width and height of a threshold's label

VI, ERL = PLOTS = ("vi.png", "erl.png")

Row = Mapping[str, Any]


def curves(rows: Sequence[Row], best: Row | None) -> dict[str, bytes]:
    """The plots of the scores of several thresholds, as PNG, by name.

    Parameters
    ----------
    rows : sequence of mapping
        One per threshold: `threshold`, and those of `vi_split`, `vi_merge`, `vi` (bits) and `erl`
        (nm) that were computed.
    best : mapping, optional
        The row of the threshold with the smallest `vi`.

    Returns
    -------
    dict of str to bytes
        Those of `PLOTS` whose scores are present.
    """
    plots = {}
    both = [row for row in rows if _known(row, "vi_split", "vi_merge")]
    if both:
        plots[VI] = _png(split_against_merge(both, best))
    erl = [row for row in rows if _known(row, "erl")]
    if erl:
        plots[ERL] = _png(run_length(erl))
    return plots


def split_against_merge(rows: Sequence[Row], best: Row | None) -> Figure:
    """VI split against VI merge, one point per threshold, with lines of equal VI.

    Thresholds that are far worse than the best are outside the frame and listed in the legend.
    """
    figure, axes = _figure()
    rows = sorted(rows, key=lambda row: row["threshold"])
    merge = [row["vi_merge"] for row in rows]
    split = [row["vi_split"] for row in rows]
    axes.plot(merge, split, color=BLUE, marker="o", markersize=5, zorder=3, label="thresholds")
    if best is not None and _known(best, "vi_split", "vi_merge"):
        total = best["vi_split"] + best["vi_merge"]
        axes.plot(
            best["vi_merge"], best["vi_split"], "*", color=RED, markersize=16, zorder=4,
            markeredgecolor="white", linestyle="none",
            label=f"best: {best['threshold']:g}, VI {total:.3f} bits",
        )  # fmt: skip
    near = _framed(rows)
    _frame(axes, near)
    _equal_sums(axes)
    _label_points(axes, near, best)
    beyond = [f"{row['threshold']:g}" for row in rows if row not in near]
    axes.set_xlabel("VI merge (bits)")
    axes.set_ylabel("VI split (bits)")
    axes.set_title("Split and merge errors over thresholds: lower left is better")
    title = f"far worse, not shown: {', '.join(beyond)}" if beyond else None
    legend = axes.legend(frameon=False, loc="upper right", title=title)
    legend.get_title().set_fontsize(8)
    return figure


def run_length(rows: Sequence[Row]) -> Figure:
    """Expected run length over the threshold, the best marked, with that of a perfect result."""
    figure, axes = _figure()
    rows = sorted(rows, key=lambda row: row["threshold"])
    threshold = [row["threshold"] for row in rows]
    erl = [row["erl"] / 1000 for row in rows]
    axes.plot(threshold, erl, color=BLUE, marker="o", markersize=5, zorder=3, label="ERL")
    top = max(range(len(rows)), key=lambda at: (erl[at], -threshold[at]))
    axes.plot(
        threshold[top], erl[top], "*", color=RED, markersize=16, zorder=4,
        markeredgecolor="white", linestyle="none",
        label=f"best: {threshold[top]:g}, ERL {erl[top]:.3g} µm",
    )  # fmt: skip
    most = rows[top].get("erl_max")
    if most is not None:
        axes.axhline(
            most / 1000, color=GREEN, linestyle="--", linewidth=1.2,
            label=f"perfect result: {most / 1000:.3g} µm",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threshold")
    axes.set_ylabel("expected run length (µm)")
    axes.set_title("Expected run length over thresholds: higher is better")
    axes.legend(frameon=False, loc="best")
    return figure


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure) -> bytes:
    """The figure as a file, the same bytes each time: no date or version is stored in it."""
    body = io.BytesIO()
    figure.savefig(body, format="png", metadata={"Software": None})
    return body.getvalue()


def _framed(rows: Sequence[Row]) -> list[Row]:
    """The rows whose VI is within `FAR` times the smallest, but at least three."""
    total = {id(row): row["vi_split"] + row["vi_merge"] for row in rows}
    ranked = sorted(total.values())
    most = max(FAR * ranked[0], ranked[:3][-1])
    return [row for row in rows if total[id(row)] <= most]


def _frame(axes: Axes, rows: Sequence[Row]) -> None:
    """Set both axes to start at 0, with room for points on the axes."""
    for name, limit in (("vi_merge", axes.set_xlim), ("vi_split", axes.set_ylim)):
        high = max(max(row[name] for row in rows), 1e-3)
        limit(-0.03 * high, 1.12 * high)


def _label_points(axes: Axes, rows: Sequence[Row], best: Row | None) -> None:
    """Label the points with their thresholds, the best one first, without overlaps."""
    taken: list[tuple[float, float]] = []
    chosen = None if best is None else best["threshold"]
    for row in sorted(rows, key=lambda row: (row["threshold"] != chosen, row["threshold"])):
        x, y = axes.transData.transform((row["vi_merge"], row["vi_split"]))
        if any(abs(x - a) < LABEL[0] and abs(y - b) < LABEL[1] for a, b in taken):
            continue
        taken.append((x, y))
        axes.annotate(
            f"{row['threshold']:g}",
            (row["vi_merge"], row["vi_split"]),
            xytext=(8, 5),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
            zorder=5,
        )


def _equal_sums(axes: Axes) -> None:
    """Draw faint lines along which split and merge errors have the same sum."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for share in EQUAL:
        total = left + bottom + share * (right - left + top - bottom)
        axes.plot(
            [total - top, total - bottom], [top, bottom],
            color=GREY, linewidth=0.7, linestyle=":", zorder=1, scalex=False, scaley=False,
            label="equal VI" if share == EQUAL[0] else None,
        )  # fmt: skip


def _known(row: Row, *names: str) -> bool:
    return all(row.get(name) is not None for name in names)
