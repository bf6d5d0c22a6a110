"""A chart of labelled scores: both groups, the threshold between them, and how certain the two rates of error are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vlad.references.labels import Labels

_GOOD, _BAD, _INK, _FAINT = "#15803d", "#be123c", "#18181b", "#71717a"
_DOTS = 400  # scores of a group that are drawn one by one


def draw_calibration(labels: Labels, path: str | Path, *, model: str = "") -> Path:
    """Write the chart as PNG or SVG, as the file's suffix says.

    Args:
        labels: with one picture at least.
        path: replaced if it is there; its folder must exist.
        model: named below the chart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    scores, rates = figure.subplots(2, 1, height_ratios=(3, 1))
    _scores(scores, labels)
    _rates(rates, labels)
    figure.supxlabel(model, fontsize=8, color=_FAINT)
    path = Path(path)
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
    return path


def _scores(axes: Any, labels: Labels) -> None:
    """Histograms of both groups over each other, and each score as a dot."""
    groups = [(labels.normal, _GOOD, "good"), (labels.anomalous, _BAD, "bad")]
    every = np.array([*labels.normal, *labels.anomalous, labels.threshold])
    low, high = float(every.min()), float(every.max())
    pad = 0.05 * (high - low) or 0.05 * high or 0.01
    edges = np.linspace(max(0, low - pad), min(1, high + pad), 31)
    rng = np.random.default_rng(0)
    top = 0.0
    for scores, colour, name in groups:
        if scores:
            counts, *_ = axes.hist(scores, edges, color=colour, alpha=0.35, label=f"{len(scores)} {name}")
            top = max(top, float(counts.max()))
    for place, (scores, colour, _) in enumerate(groups):
        shown = np.asarray(scores)[:: max(1, len(scores) // _DOTS)]
        heights = -top * (0.08 + 0.1 * place + 0.03 * rng.uniform(-1, 1, len(shown)))
        axes.plot(shown, heights, "o", color=colour, markersize=3.5, alpha=0.7)
    axes.axvline(labels.threshold, color=_INK, linewidth=1.5)
    right = labels.threshold > (edges[0] + edges[-1]) / 2
    axes.annotate(
        f"threshold {labels.threshold:.3f}",
        (labels.threshold, 1),
        (-6 if right else 6, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        color=_INK,
    )
    axes.set(ylabel="pictures", xlabel="score", xlim=(edges[0], edges[-1]))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1.1 * top])
    axes.legend(frameon=False, loc="upper left" if right else "upper right")
    _plain(axes)


def _rates(axes: Any, labels: Labels) -> None:
    """Both rates with their intervals."""
    rows = [("misses", labels.misses, _BAD), ("false alarms", labels.false_alarms, _GOOD)]
    for place, (_, rate, colour) in enumerate(rows):
        if not rate.of:
            axes.annotate("no picture says", (0, place), va="center", color=_FAINT, fontsize=9)
            continue
        low, high = rate.interval
        axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes.plot(rate.share, place, "o", color=colour)
        axes.annotate(
            f"{rate.count} of {rate.of}; {low:.1%} to {high:.1%}",
            (high, place),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=_INK,
        )
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set(xlim=(-0.01, 1.3), ylim=(-0.6, 1.6), xlabel="rate of further pictures, with 95 % confidence")
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
