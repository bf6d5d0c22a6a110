"""Two runs on the same pictures: what differs, and whether it is more than chance.

Pictures are drawn with replacement, the same ones for both runs (paired bootstrap), in each category apart; the difference of the two
means over categories is computed for every draw. A p-value is twice the smaller share of draws on one side of zero: with less than 1,000
draws no smaller than 2 / n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlad.errors import ConfigError
from vlad.evaluation.results import RANKING, category_resamples, mean_over, pixel_counts, read_results
from vlad.evaluation.samples import Sample, read_samples
from vlad.metrics import PixelCounts, percentile_interval, resampled_ranking

_PIXEL_RESAMPLES = 200


@dataclass(frozen=True)
class Difference:
    """One metric of one k, of a category or of the mean over categories (`category` None), mean over seeds.

    Attributes:
        a, b, difference: in [0, 1], and b - a.
        interval: 95 % of the difference, None if it was not resampled.
        p_value: of no difference; None as above.
        is_regression: b is below a by more than the tolerance; said of means alone.
    """

    metric: str
    k_shot: int
    category: str | None
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    is_regression: bool


@dataclass(frozen=True)
class Comparison:
    """All differences of two runs.

    Attributes:
        differences: means first.
        notes: what the runs do not have in common.
    """

    a: str
    b: str
    tolerance: float
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Difference, ...]:
        return tuple(one for one in self.differences if one.is_regression)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "regressions": [asdict(one) for one in self.regressions]}

    def to_text(self) -> str:
        """A table in plain text, with a verdict below."""
        lines = [f"A: {self.a}", f"B: {self.b}", *(f"note: {note}" for note in self.notes), ""]
        width = max([8, *(len(one.category or "") for one in self.differences)])
        lines.append(f"{'metric':<14}{'k':>3}  {'category':<{width}}{'A':>8}{'B':>8}{'B - A':>9}   {'95 %':<18}p")
        for one in self.differences:
            interval = "" if one.interval is None else f"[{100 * one.interval[0]:+.2f}, {100 * one.interval[1]:+.2f}]"
            p_value = "" if one.p_value is None else f"{one.p_value:.3f}"
            name = one.category or "mean"
            numbers = f"{100 * one.a:>8.2f}{100 * one.b:>8.2f}{100 * one.difference:>+9.2f}"
            lines.append(f"{one.metric:<14}{one.k_shot:>3}  {name:<{width}}{numbers}   {interval:<18}{p_value}".rstrip())
        lines.append("")
        lines += [
            f"regression: {one.metric} at k={one.k_shot} fell by {-100 * one.difference:.2f}, more than {100 * self.tolerance:g}"
            for one in self.regressions
        ]
        lines.append("" if self.regressions else f"no mean fell by more than {100 * self.tolerance:g}")
        return "\n".join(lines).rstrip()


def compare_runs(a: Path, b: Path, *, metrics: Sequence[str], tolerance: float = 0.005, n_resamples: int = 1000) -> Comparison:
    """Compare two runs' folders on the units and pictures that both have.

    Args:
        a, b: folders that `vlad eval` wrote.
        metrics: names in results.json; those that neither run has are left out.
        tolerance: see `Difference.is_regression`.
        n_resamples: of picture metrics; pixel metrics take 200 at most.

    Raises:
        ConfigError: a folder holds no run, the runs have nothing in common, or no metric is known.
    """
    results = read_results(a), read_results(b)
    fpr_limits = [result["settings"]["fpr_limit"] for result in results]
    grouped = [_by_unit(read_samples(folder)) for folder in (a, b)]
    notes = _notes(*results)
    units = [unit for unit in grouped[0] if unit in grouped[1]]
    pairs = {unit: _common(grouped[0][unit], grouped[1][unit]) for unit in units}
    pairs = {unit: pair for unit, pair in pairs.items() if pair[0]}
    if not pairs:
        raise ConfigError(f"{a} and {b} have no category, k, seed and picture in common; compare runs on one dataset")
    if alone := len(grouped[0].keys() ^ grouped[1].keys()):
        notes.append(f"{alone} units (category, k, seed) are in one run alone and left out")
    known = [name for name in metrics if any(name in unit["metrics"] for result in results for unit in result["units"])]
    if not known:
        raise ConfigError(
            f"none of the metrics {', '.join(metrics)} is in the runs; there are {', '.join(results[0]['units'][0]['metrics'])}"
        )
    if fpr_limits[0] != fpr_limits[1] and {"aupro", "spro"} & set(known):
        notes.append(f"AUPRO of A has the limit {fpr_limits[0]}, of B {fpr_limits[1]}; both are computed with A's here")
    measured = {unit: _measure(a, b, pair, fpr_limits[0], n_resamples) for unit, pair in pairs.items()}
    means, singles = [], []
    for name in known:
        for k_shot in sorted({unit[1] for unit in pairs}):
            chosen = {unit: values[name] for unit, values in measured.items() if unit[1] == k_shot and name in values}
            if not chosen:
                continue
            categories = list(dict.fromkeys(unit[0] for unit in chosen))
            means.append(_difference(name, k_shot, None, list(chosen.values()), tolerance))
            if len(categories) > 1:
                for category in categories:
                    some = [values for unit, values in chosen.items() if unit[0] == category]
                    singles.append(_difference(name, k_shot, category, some, None))
    return Comparison(str(a), str(b), tolerance, (*means, *singles), tuple(notes))


@dataclass(frozen=True)
class _Paired:
    """One metric of one unit in both runs, and over resamples (B,), None if there are none."""

    a: float
    b: float
    drawn_a: np.ndarray | None
    drawn_b: np.ndarray | None


def _measure(a: Path, b: Path, pair: tuple[list[Sample], list[Sample]], fpr_limit: float, n: int) -> dict[str, _Paired]:
    labels = np.array([sample.gt_label for sample in pair[0]])
    scores = [np.array([sample.pred_score for sample in samples], float) for samples in pair]
    measured: dict[str, _Paired] = {}
    if labels.any() and not labels.all():
        draws = category_resamples(pair[0], n)
        drawn = [resampled_ranking(labels, values, draws) for values in scores]
        for name, metric in RANKING.items():
            key = metric.__name__
            measured[name] = _Paired(metric(labels, scores[0]), metric(labels, scores[1]), drawn[0][key], drawn[1][key])
    both = [index for index in range(len(labels)) if pair[0][index].pixels and pair[1][index].pixels]
    found = [pixel_counts(folder, [samples[i] for i in both], fpr_limit) for folder, samples in zip((a, b), pair, strict=True)]
    if found[0] is not None and found[1] is not None and not found[0].undefined:
        measured |= _measure_pixels(found[0], found[1], category_resamples([pair[0][i] for i in both], min(n, _PIXEL_RESAMPLES)))
    return measured


def _measure_pixels(a: PixelCounts, b: PixelCounts, draws: np.ndarray) -> dict[str, _Paired]:
    values = a.metrics(), b.metrics()
    drawn = a.resampled(draws), b.resampled(draws)
    paired = {name: _Paired(values[0][name], values[1][name], drawn[0].get(name), drawn[1].get(name)) for name in values[0]}
    return paired | {"spro": paired["aupro"]}  # which of the two names is in the results decides which is shown


def _difference(metric: str, k_shot: int, category: str | None, paired: list[_Paired], tolerance: float | None) -> Difference:
    a, b = mean_over([one.a for one in paired]), mean_over([one.b for one in paired])
    difference = float(b or 0) - float(a or 0)
    interval = p_value = None
    drawn = [one.drawn_b - one.drawn_a for one in paired if one.drawn_a is not None and one.drawn_b is not None]
    if len(drawn) == len(paired) and all(np.isfinite(values).all() for values in drawn):
        mean = np.mean(drawn, axis=0)
        ends = percentile_interval(mean)
        interval = (ends.low, ends.high)
        p_value = float(min(1.0, max(2 * min((mean <= 0).mean(), (mean >= 0).mean()), 2 / len(mean))))
    is_regression = tolerance is not None and difference < -tolerance
    return Difference(metric, k_shot, category, float(a or 0), float(b or 0), difference, interval, p_value, is_regression)


def _by_unit(samples: Sequence[Sample]) -> dict[tuple[str, int, int], dict[str, Sample]]:
    units: dict[tuple[str, int, int], dict[str, Sample]] = {}
    for sample in samples:
        if sample.pred_score is not None:
            units.setdefault((sample.category, sample.k_shot, sample.seed), {})[sample.image_path] = sample
    return units


def _common(a: dict[str, Sample], b: dict[str, Sample]) -> tuple[list[Sample], list[Sample]]:
    paths = [path for path in a if path in b and a[path].gt_label == b[path].gt_label]
    return [a[path] for path in paths], [b[path] for path in paths]


def _notes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What was different about the two runs."""
    return [
        f"{key}.{name}: {a[key].get(name)} in A, {b[key].get(name)} in B"
        for key in ("dataset", "model", "prompts", "detector")
        for name in sorted(a[key].keys() | b[key].keys())
        if a[key].get(name) != b[key].get(name) and name != "categories"
    ]
