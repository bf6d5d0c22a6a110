"""The procedural pictures: determinism, exact masks, disjoint splits, honest labels, and the folders written for the benchmark."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vlad.synthetic import (
    BENCHMARK_CATEGORIES,
    DEFECT_ADJECTIVES,
    DEFECT_NOUNS,
    DEFECTS,
    FAMILIES,
    FAMILY_NOUNS,
    HELD_OUT_DEFECTS,
    HELD_OUT_FAMILIES,
    ProductLine,
    Sample,
    contact_sheet,
    generate,
    make_pair,
    make_sample,
    write_benchmark,
)
from vlad.synthetic.__main__ import main
from vlad.synthetic.objects import OBJECTS
from vlad.synthetic.scene import compose
from vlad.synthetic.striking import strike
from vlad.synthetic.textures import RECIPES

EXAMPLES = Path(__file__).parents[2] / "demos" / "examples"
ALL_FAMILIES = FAMILIES + HELD_OUT_FAMILIES
ALL_DEFECTS = DEFECTS + HELD_OUT_DEFECTS


def same(a: Sample, b: Sample) -> bool:
    words = (a.class_name, a.family, a.defect, a.caption) == (b.class_name, b.family, b.defect, b.caption)
    return words and np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)


def test_same_seed_same_picture_and_other_seed_another() -> None:
    first, again, other = make_sample(7, size=96), make_sample(7, size=96), make_sample(8, size=96)
    assert same(first, again)
    assert not np.array_equal(first.image, other.image)


def test_a_generator_continues_its_stream() -> None:
    rng = np.random.default_rng(3)
    first, second = make_sample(rng, size=96), make_sample(rng, size=96)
    assert same(first, make_sample(3, size=96))
    assert not np.array_equal(first.image, second.image)


def test_number_of_processes_changes_nothing() -> None:
    alone = list(generate(10, seed=4, size=64))
    together = list(generate(10, seed=4, size=64, processes=2))
    assert len(alone) == len(together) == 10
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert same(alone[6], make_sample((4, 6), size=64))


def test_splits_are_disjoint_and_complete() -> None:
    assert not set(FAMILIES) & set(HELD_OUT_FAMILIES)
    assert not set(DEFECTS) & set(HELD_OUT_DEFECTS)
    assert len(HELD_OUT_DEFECTS) >= 3
    assert {name in RECIPES for name in HELD_OUT_FAMILIES} == {True, False}, "surfaces and objects must both be held out"
    assert set(ALL_FAMILIES) == set(FAMILY_NOUNS) == set(RECIPES) | set(OBJECTS)
    assert set(ALL_DEFECTS) == set(DEFECT_NOUNS) == set(DEFECT_ADJECTIVES)
    assert set(BENCHMARK_CATEGORIES.values()) <= set(HELD_OUT_FAMILIES)


def test_defaults_never_touch_what_is_held_out() -> None:
    samples = list(generate(40, seed=1, size=64))
    assert {sample.family for sample in samples} <= set(FAMILIES)
    assert {sample.defect for sample in samples} <= {"good", *DEFECTS}


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_family_and_defect_gives_a_valid_sample(family: str) -> None:
    index = ALL_FAMILIES.index(family)
    for defect in (ALL_DEFECTS[index % 20], ALL_DEFECTS[(index * 7 + 3) % 20]):
        sample = make_sample((index, 5), families=(family,), defects=(defect,), size=128, anomalous=True)
        assert sample.image.shape == (128, 128, 3) and sample.image.dtype == np.uint8
        assert sample.mask.shape == (128, 128) and sample.mask.dtype == np.bool_
        assert (sample.family, sample.defect) == (family, defect)
        assert sample.class_name in FAMILY_NOUNS[family]
        assert sample.class_name in sample.caption
        assert any(word in sample.caption for word in DEFECT_NOUNS[defect] + DEFECT_ADJECTIVES[defect])
        assert 0.0003 <= sample.mask.mean() <= 0.16


@pytest.mark.parametrize("defect", ALL_DEFECTS)
def test_the_picture_changes_inside_the_mask_and_hardly_outside(defect: str) -> None:
    """Before the camera: compression would spread the change over its blocks."""
    index = ALL_DEFECTS.index(defect)
    for number, family in enumerate((ALL_FAMILIES[index], ALL_FAMILIES[-1 - index])):
        design, view, strike_rng = np.random.default_rng((index, number)).spawn(3)
        scene = compose(family, 160, design, view)
        clean = scene.render()
        spoilt, mask, _ = strike(strike_rng, scene, clean, (defect,))
        change = np.abs(spoilt - clean).max(2)
        beyond = ~cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)  # shadows reach a little beyond a defect
        assert change[mask].mean() > 0.03
        assert (change[beyond] > 0.05).mean() < 0.01
        assert change[mask].mean() > 10 * change[beyond].mean()


def test_a_pair_differs_by_the_defect_alone() -> None:
    for seed in range(12):
        good, bad = make_pair((9, seed), size=128)
        assert good.defect == "good" and not good.mask.any()
        assert bad.defect in DEFECTS and bad.mask.any()
        assert (good.family, good.class_name) == (bad.family, bad.class_name)
        change = np.abs(good.image.astype(int) - bad.image.astype(int)).max(2)
        far = ~cv2.dilate(bad.mask.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        assert change[bad.mask].mean() > 3
        assert change[far].mean() < 1.0


def test_good_pictures_say_so() -> None:
    for sample in generate(24, seed=12, size=64):
        assert (sample.defect == "good") == (not sample.mask.any())
        if sample.defect == "good":
            assert " with " not in sample.caption
            assert sample.caption.endswith(sample.class_name)


def test_even_odds_by_default() -> None:
    bad = sum(sample.mask.any() for sample in generate(100, seed=2, size=64))
    assert 35 <= bad <= 65


def test_global_statistics_do_not_give_the_label_away() -> None:
    """Pairs share their scene, so chance differences between products cancel and 220 pictures suffice."""
    labels, statistics = [], []
    for number in range(110):
        for sample in make_pair((21, number), size=96):
            grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
            fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))
            edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
            labels.append(bool(sample.mask.any()))
            statistics.append([grey.mean(), grey.std(), np.median(fine), fine.mean(), edges.mean(), sample.image.std(2).mean()])
    for column, name in zip(np.array(statistics).T, ("mean", "std", "noise", "detail", "edges", "saturation"), strict=True):
        assert 0.4 < roc_auc_score(labels, column) < 0.6, f"{name} separates good from bad"


def test_families_are_as_frequent_on_good_as_on_bad() -> None:
    """A hard family whose defects failed more often would leak through its own frequency."""
    pairs = [make_pair((31, number), size=64) for number in range(15)]
    assert [good.family for good, _ in pairs] == [bad.family for _, bad in pairs]


def test_a_line_makes_the_same_product_in_varying_views() -> None:
    line, other = ProductLine("gear", 3, 128), ProductLine("gear", 4, 128)
    first, second = line.sample(0).image, line.sample(1).image
    assert not np.array_equal(first, second)
    colour = [picture.reshape(-1, 3).mean(0) for picture in (first, second, other.sample(0).image)]
    assert np.abs(colour[0] - colour[1]).max() < 12 < np.abs(colour[0] - colour[2]).max()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"families": ("unicorn",)}, "unicorn"),
        ({"families": ()}, "at least one family"),
        ({"defects": ("curse",)}, "curse"),
        ({"size": 16}, "at least 64"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_sample(0, **arguments)  # type: ignore[arg-type]


def test_benchmark_has_the_layout_of_mvtec(tmp_path: Path) -> None:
    write_benchmark(tmp_path, categories=("gear", "brick_wall"), n_train=2, n_good=2, n_bad=5, size=96)
    assert {path.name for path in tmp_path.iterdir()} == {"gear", "brick_wall"}
    for category in tmp_path.iterdir():
        assert len(list((category / "train" / "good").glob("*.png"))) == 2
        assert len(list((category / "test" / "good").glob("*.png"))) == 2
        defective = [path for path in (category / "test").glob("*/*.png") if path.parent.name != "good"]
        assert len(defective) == 5
        assert {path.parent.name for path in defective} == set(HELD_OUT_DEFECTS)
        for path in defective:
            mask = cv2.imread(str(category / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"), cv2.IMREAD_UNCHANGED)
            assert cv2.imread(str(path)).shape == (96, 96, 3)
            assert mask.shape == (96, 96) and set(np.unique(mask)) == {0, 255}
        assert len(list((category / "ground_truth").glob("*/*.png"))) == 5
    with pytest.raises(ValueError, match="unicorn"):
        write_benchmark(tmp_path, categories=("unicorn",))


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example pictures come with the repository, not with the package")
def test_examples_are_complete_and_small() -> None:
    pictures = sorted(EXAMPLES.glob("*.png"))
    assert len(pictures) == 8
    assert sum("_good" in path.name for path in pictures) >= 3
    for path in pictures:
        mask = cv2.imread(str(EXAMPLES / "masks" / f"{path.stem}_mask.png"), cv2.IMREAD_UNCHANGED)
        assert cv2.imread(str(path)).shape == (512, 512, 3)
        assert mask.shape == (512, 512)
        assert mask.any() != path.stem.endswith("_good")
        product = next(name.name for name in (EXAMPLES / "references").iterdir() if path.name.startswith(name.name))
        assert len(list((EXAMPLES / "references" / product).glob("*.png"))) == 4
    gears = sorted((EXAMPLES / "gears").glob("*.png"))
    bad = [path for path in gears if not path.stem.endswith("_good")]
    assert (len(gears), len(bad)) == (12, 2) and all(cv2.imread(str(path)).shape == (384, 384, 3) for path in gears)
    assert all(cv2.imread(str(EXAMPLES / "masks" / "gears" / f"{path.stem}_mask.png"), cv2.IMREAD_UNCHANGED).any() for path in bad)
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*.png")) < 4_000_000


def test_preview_writes_a_contact_sheet(tmp_path: Path) -> None:
    main(["preview", str(tmp_path / "sheet.png"), "--n", "3", "--size", "64", "--families", "pill"])
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (240, 8 * 240, 3)
    assert contact_sheet([make_sample(0, size=64)], columns=2, side=80).shape == (80, 160, 3)
