"""Thresholds from few references: what each way to make one is worth, and whether it keeps what it aims at.

    python eval/thresholds.py images | pixels | verdict | learn | promises DATA_ROOT...

`images`: false alarms, misses and balanced accuracy of each candidate by number of references, beside the best threshold on the same
    scores, which knows what is bad; mean over products and five draws each. `pixels`: the same of the highest value of the map.
`verdict`: how far `student` and `shrinkage` stay below the best one; lines, the photographs together and each data set.
`learn`: the constants of `vlad.references.shrinkage`, from the even ones of the first 48 lines; candidates were chosen on the odd ones.
`promises`: share of held-out normal pictures above each method's threshold, 200 draws, at limits of 5 and 20 %.

Model lite, scorer `nearest`, no turned copies. What the encoder saw is kept in --cache, so a second table costs seconds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from normal_scores import CHANGED, Eye, Product, cached, category_pictures, line_pictures
from torch import Tensor

from vlad.config import CALIBRATIONS
from vlad.evaluation.datasets import load_dataset
from vlad.references.calibration import threshold
from vlad.references.shrinkage import CUT, IMAGE_PRIOR, PIXEL_PRIOR, SpreadPrior, shrinkage_bound

CHOSEN_ON, LINES = 48, 60
COUNTS = (1, 2, 4, 8, 16, 32)
DRAWS = 5
LIMITS = (0.05, 0.2)


class Scores(NamedTuple):
    """Of one draw of k references: theirs by leave-one-out (k,), none of one alone; of views of few, changed and mirrored; of other good
    pictures and of anomalous ones."""

    own: np.ndarray
    changed: np.ndarray
    mirrors: np.ndarray
    good: np.ndarray
    bad: np.ndarray


def image_score(distances: Tensor) -> np.ndarray:
    """Mean of the highest 1 % of the patch distances (..., P)."""
    count = max(1, round(0.01 * distances.shape[-1]))
    return np.asarray(distances.float().topk(count, dim=-1).values.mean(-1))


def pixel_score(distances: Tensor) -> np.ndarray:
    """The highest of the patch distances (..., P)."""
    return np.asarray(distances.float().amax(-1))


def draw(product: Product, k: int, rng: np.random.Generator, score: Callable[[Tensor], np.ndarray]) -> Scores:
    """Scores of one draw. Few references are drawn from the first, whose views were seen. Where every good picture may be a reference,
    those that were not drawn are held out."""
    references = rng.permutation(product.viewed if k < 4 else product.references)[:k]
    rest = np.arange(product.references, product.good)
    if not len(rest):
        rest = np.setdiff1d(np.arange(product.good), references)
    test = score(product.distances[:, references].amin(1))
    own, views = np.empty(0), torch.empty(0, 0, 0)
    if k == 1:
        views = product.views[references, :, references]
    else:
        own = score(torch.stack([product.distances[i, [j for j in references if j != i]].amin(0) for i in references]))
    if 1 < k < 4:
        views = torch.stack([product.views[i][:, [j for j in references if j != i]].amin(1) for i in references])
    changed, mirrors = (score(part).ravel() if views.numel() else np.empty(0) for part in (views[:, :CHANGED], views[:, CHANGED:]))
    return Scores(own, changed, mirrors if k == 1 else np.empty(0), test[rest], test[product.good :])


def method_threshold(scores: Scores, method: str, limit: float, prior: SpreadPrior) -> float:
    """As `Calibration` makes it."""
    own = scores.own if len(scores.own) else scores.changed
    changed = scores.changed if len(scores.own) else ()
    return threshold(own, method, limit, views=changed, mirrors=scores.mirrors, prior=prior)


def shrunk(scores: Scores, limit: float, prior: SpreadPrior, cut: float = CUT) -> float:
    """`shrinkage_bound` with another prior or another cut."""
    own = scores.own if len(scores.own) else [float(np.exp(np.log(scores.mirrors).mean()))]
    return shrinkage_bound(own, limit, prior, are_held_out=len(scores.own) > 0, cut=cut)


def candidates(prior: SpreadPrior) -> dict[str, Callable[[Scores], float | None]]:
    """Each way to make a threshold, by name; None where it needs more references."""
    found: dict[str, Callable[[Scores], float | None]] = {
        "highest": lambda scores: float((scores.own if len(scores.own) else scores.changed).max()),
        "1.15 x median": lambda scores: 1.15 * float(np.median(scores.own if len(scores.own) else scores.mirrors)),
        "median + 2 robust deviations": lambda scores: robust_bound(scores.own) if len(scores.own) > 1 else None,
        "student on logarithms": lambda scores: shrunk(scores, 0.05, SpreadPrior(1e-3, 1e-9, 0), np.inf) if len(scores.own) > 1 else None,
        "prior, nothing cut off": partial(shrunk, limit=0.05, prior=prior, cut=np.inf),
        "prior, cut at 2": partial(shrunk, limit=0.05, prior=prior, cut=2.0),
        "prior of 0.15 and 4 degrees": partial(shrunk, limit=0.05, prior=SpreadPrior(0.15, 4, prior.decline)),
        "prior of 0.20 and 8 degrees": partial(shrunk, limit=0.05, prior=SpreadPrior(0.2, 8, prior.decline)),
        "no decline": partial(shrunk, limit=0.05, prior=replace(prior, decline=0.0)),
    }
    for method in CALIBRATIONS:
        found[method] = partial(method_threshold, method=method, limit=0.05, prior=prior)
    for limit in (0.02, 0.1, 0.2):
        found[f"shrinkage at {limit:.0%}"] = partial(method_threshold, method="shrinkage", limit=limit, prior=prior)
    return found


def robust_bound(own: np.ndarray) -> float:
    """Median and median deviation."""
    return float(np.median(own) + 2 * 1.4826 * np.median(np.abs(own - np.median(own))))


def outcome(scores: Scores, value: float) -> tuple[float, float, float]:
    """False alarms, misses, balanced accuracy."""
    assert np.isfinite(value)  # every comparison with NaN is false, which would count as no error at all
    alarms, misses = float((scores.good > value).mean()), float((scores.bad <= value).mean())
    return alarms, misses, 1 - (alarms + misses) / 2


def best(scores: Scores) -> float:
    """The balanced accuracy of the best threshold on these scores."""
    return max(outcome(scores, value)[2] for value in (-1.0, *scores.good, *scores.bad))


def fits(product: Product, k: int) -> bool:
    """Whether k references can be drawn and some good pictures are left."""
    return k <= product.references and (product.references < product.good or k + 5 <= product.good)


def table(halves: dict[str, list[Product]], score: Callable[[Tensor], np.ndarray], prior: SpreadPrior) -> None:
    """The table of all candidates: a line for each k and candidate, a group of columns for each group of products."""
    names = list(halves)
    print("| k | threshold |" + "".join(f" {name}: false alarms | misses | balanced accuracy |" for name in names))
    print("|---|---|" + "---|---|---|" * len(names))
    for k in COUNTS:
        drawn = {
            name: [draw(one, k, np.random.default_rng((k, number)), score) for one in products if fits(one, k) for number in range(DRAWS)]
            for name, products in halves.items()
        }
        sets = ", ".join(str(len(found) // DRAWS) for found in drawn.values())
        print(
            f"| {k} | best possible ({sets} products) |"
            + "".join(f" | | {np.mean([best(one) for one in found]):.3f} |" for found in drawn.values())
        )
        for title, candidate in candidates(prior).items():
            values = {name: [(one, candidate(one)) for one in found] for name, found in drawn.items()}
            if any(value is None for found in values.values() for _, value in found):
                continue
            cells = ""
            for found in values.values():
                alarms, misses, accuracy = np.mean([outcome(one, float(value or 0)) for one, value in found], axis=0)
                cells += f" {alarms:.3f} | {misses:.3f} | {accuracy:.3f} |"
            print(f"| {k} | {title} |{cells}", flush=True)


def verdict(groups: dict[str, list[Product]], score: Callable[[Tensor], np.ndarray], prior: SpreadPrior) -> None:
    """How far two methods stay below the best threshold, and their false alarms and misses: a line for each k and group."""
    methods = ("student", "shrinkage")
    print("| products | k | best possible |" + "".join(f" {name}: below it | false alarms | misses |" for name in methods))
    print("|---|---|---|" + "---|---|---|" * len(methods))
    for name, products in groups.items():
        for k in COUNTS:
            drawn = [draw(one, k, np.random.default_rng((k, number)), score) for one in products if fits(one, k) for number in range(DRAWS)]
            if not drawn:
                continue
            top = np.mean([best(one) for one in drawn])
            cells = f"| {name} | {k} | {top:.3f} |"
            for method in methods:
                alarms, misses, accuracy = np.mean([outcome(one, method_threshold(one, method, 0.05, prior)) for one in drawn], axis=0)
                cells += f" {top - accuracy:.3f} | {alarms:.1%} | {misses:.1%} |"
            print(cells, flush=True)


def learn(products: Sequence[Product]) -> None:
    """The prior by maximum marginal likelihood: variances of held-out log scores at eight references are scaled F; and the decline."""
    from scipy.optimize import minimize
    from scipy.stats import f

    print("| | spread | degrees | decline |\n|---|---|---|---|")
    for name, score in (("images", image_score), ("pixels", pixel_score)):
        variances, degrees, declines = [], [], []
        for product in products:
            for number in range(DRAWS):
                scores = draw(product, 8, np.random.default_rng((8, number)), score)
                values = np.log(scores.good)
                scale = 1.4826 * np.median(np.abs(values - np.median(values)))
                variances.append(np.clip(values, np.median(values) - CUT * scale, np.median(values) + CUT * scale).var(ddof=1))
                degrees.append(len(values) - 1)
            for k in (2, 4, 8):
                drawn = [draw(product, k, np.random.default_rng((k, number)), score) for number in range(DRAWS)]
                declines.append(k * np.mean([np.median(np.log(one.own)) - np.median(np.log(one.good)) for one in drawn]))

        def loss(at: np.ndarray, s2: np.ndarray = np.array(variances), n: np.ndarray = np.array(degrees)) -> float:
            return -float((f.logpdf(s2 / np.exp(at[0]), n, np.exp(at[1])) - at[0]).mean())

        found = minimize(loss, [-4.0, 1.0], method="Nelder-Mead").x
        print(f"| {name} | {np.exp(found[0] / 2):.3f} | {np.exp(found[1]):.2f} | {np.mean(declines):.2f} |")


def promises(products: Sequence[Product], draws: int) -> None:
    """Share of held-out normal pictures above each method's threshold."""
    columns = [(method, limit) for limit in LIMITS for method in CALIBRATIONS]
    print("| category | k | " + " | ".join(f"{method}, {limit:.0%}" for method, limit in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for product in products:
        for k in (one for one in COUNTS if one > 1 and fits(product, one)):
            drawn = [draw(product, k, np.random.default_rng((k, number)), image_score) for number in range(draws)]
            shares = [
                np.mean([(one.good > method_threshold(one, method, limit, IMAGE_PRIOR)).mean() for one in drawn])
                for method, limit in columns
            ]
            print(f"| {product.name} | {k} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)


def lines(eye: Eye, cache: Path) -> Iterator[Product]:
    """The procedural lines."""
    for number in range(LINES):
        yield cached(eye, cache, f"line{number}", partial(line_pictures, number))


def photographs(eye: Eye, cache: Path, roots: Sequence[Path]) -> Iterator[Product]:
    """The categories of data sets."""
    for category in (one for root in roots for one in load_dataset(root).categories):
        yield cached(eye, cache, category.name, partial(category_pictures, category))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("images", "pixels", "verdict", "learn", "promises"))
    parser.add_argument("roots", type=Path, nargs="*")
    parser.add_argument("--cache", type=Path, default=Path("runs/thresholds"))
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    eye = Eye()
    if options.table == "promises":
        promises(list(photographs(eye, options.cache, options.roots)), options.draws)
        return
    procedural = list(lines(eye, options.cache))
    if options.table == "learn":
        learn(procedural[:CHOSEN_ON:2])
        return
    if options.table == "verdict":
        real = list(photographs(eye, options.cache, options.roots))
        verdict(
            {"lines": procedural, "fresh lines": procedural[CHOSEN_ON:], "photographs": real, **{one.name: [one] for one in real}},
            image_score,
            IMAGE_PRIOR,
        )
        return
    fresh = procedural[CHOSEN_ON:]
    groups = {"lines learned on": procedural[:CHOSEN_ON:2], "lines chosen on": procedural[1:CHOSEN_ON:2], "fresh lines": fresh}
    if options.roots:
        groups["photographs"] = list(photographs(eye, options.cache, options.roots))
    score, prior = (image_score, IMAGE_PRIOR) if options.table == "images" else (pixel_score, PIXEL_PRIOR)
    table(groups, score, prior)


if __name__ == "__main__":
    main()
