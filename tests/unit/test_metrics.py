"""Metrics: golden values, hand-worked numbers, properties, and what is undefined."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from vlad.errors import MetricError
from vlad.metrics import (
    PictureCounts,
    PixelCounts,
    Undefined,
    aupro,
    auroc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    count_pixels,
    expected_calibration_error,
    f1_max,
    iou_max,
    percentile_interval,
    precision,
    recall,
    resampled_ranking,
    resamples,
    spro,
)

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def reference():
    tensors = load_file(PARITY / "metrics_reference.safetensors")
    info = json.loads((PARITY / "metrics_reference.json").read_text())
    return tensors["anomaly_maps"], tensors["gt_masks"], info


def brute_force_aupro(maps, masks, limit):
    """The definition, threshold by threshold: mean overlap of 8-connected regions over the false-positive rate, cut at the limit."""
    from scipy import ndimage

    maps, masks = np.asarray(maps), np.asarray(masks) > 0
    regions = []
    for index, mask in enumerate(masks):
        numbers, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, numbers == number) for number in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        points.append((called[~masks].mean(), np.mean([called[index][inside].mean() for index, inside in regions])))
    x, y = np.array(points).T
    end = np.searchsorted(x, limit)  # the first point at or beyond the limit
    share = (limit - x[end - 1]) / (x[end] - x[end - 1])
    return np.trapezoid([*y[:end], y[end - 1] + share * (y[end] - y[end - 1])], [*x[:end], limit]) / limit


class TestGolden:
    @pytest.mark.parametrize("key", ["expected", "expected_after_exp_3x"])
    def test_all_values(self, reference, key):
        maps, masks, info = reference
        maps = np.exp(3 * maps) if key == "expected_after_exp_3x" else maps
        labels, scores = masks.any(axis=(1, 2)), maps.max(axis=(1, 2))
        found = {
            "image_auroc": auroc(labels, scores),
            "image_ap": average_precision(labels, scores),
            "image_f1_max": f1_max(labels, scores),
            "pixel_auroc": auroc(masks, maps),
            "pixel_ap": average_precision(masks, maps),
            "pixel_f1_max": f1_max(masks, maps),
            "aupro_0.3": aupro(maps, masks),
            "aupro_0.05": aupro(maps, masks, fpr_limit=0.05),
        }
        assert found == pytest.approx(info[key], abs=1e-6)

    def test_aupro_does_not_change_under_a_strictly_monotone_rescale(self, reference):
        maps, masks, _ = reference
        assert aupro(np.exp(3 * maps.astype(np.float64)), masks) == aupro(maps, masks)


class TestAupro:
    @settings(max_examples=60, deadline=None)
    @given(
        arrays(np.float64, (3, 6, 7), elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])),
        arrays(bool, (3, 6, 7)),
        st.sampled_from([0.05, 0.3, 1 / 3, 1.0]),
    )
    def test_equals_the_definition_also_with_ties(self, maps, masks, limit):
        found = aupro(maps, masks, fpr_limit=limit)
        if masks.all() or not masks.any():
            assert math.isnan(found)
        else:
            assert found == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-12)

    def test_is_pixel_auroc_for_one_region_and_no_limit(self):
        rng = np.random.default_rng(0)
        masks = np.zeros((2, 20, 20), bool)
        masks[0, 5:9, 5:9] = True
        maps = rng.random((2, 20, 20))
        assert aupro(maps, masks, fpr_limit=1.0) == pytest.approx(auroc(masks, maps), abs=1e-12)

    def test_diagonal_neighbours_are_one_region(self):
        """Two diagonal pixels, one found: half of one region, not all of one and nothing of another; both give 1/2 only by the mean."""
        mask = np.zeros((1, 4, 4), bool)
        mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 3, 3] = True
        scores = np.zeros((1, 4, 4))
        scores[0, 0, 0] = 1.0
        # Regions {(0,0), (1,1)} and {(3,3)}: 1/4 found before any false positive, then a straight line to 1 where everything ties.
        assert aupro(scores, mask, fpr_limit=1.0) == pytest.approx(0.25 + 0.75 / 2)

    @pytest.mark.parametrize("score", [0.0, 0.7])
    def test_constant_maps_give_half_the_limit(self, score):
        mask = np.zeros((1, 8, 8), bool)
        mask[0, 2:4, 2:4] = True
        assert aupro(np.full((1, 8, 8), score), mask, fpr_limit=0.3) == pytest.approx(0.15)

    def test_maps_of_different_sizes_and_with_a_channel(self):
        rng = np.random.default_rng(1)
        maps = [rng.random((8, 9)), rng.random((12, 5))]
        masks = [rng.random((8, 9)) > 0.8, rng.random((12, 5)) > 0.8]
        expected = aupro(maps, masks)
        assert aupro([scores[None] for scores in maps], [mask[None] for mask in masks]) == expected
        assert aupro(maps[0], masks[0]) == aupro(maps[:1], masks[:1])

    @pytest.mark.parametrize(("mask", "reason"), [(np.zeros((1, 4, 4)), "no defective pixel"), (np.ones((1, 4, 4)), "no normal pixel")])
    def test_undefined_with_a_reason(self, mask, reason):
        found = aupro(np.zeros((1, 4, 4)), mask)
        assert math.isnan(found) and reason in found.reason

    @pytest.mark.parametrize(
        ("maps", "masks", "limit", "message"),
        [
            (np.zeros((2, 4, 4)), np.zeros((1, 4, 4)), 0.3, "1 masks and 2 maps"),
            (np.zeros((1, 4, 4)), np.zeros((1, 4, 5)), 0.3, r"map \(4, 4\) and a mask \(4, 5\)"),
            (np.full((1, 4, 4), np.nan), np.zeros((1, 4, 4)), 0.3, "NaN"),
            (np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), 0.0, "fpr_limit"),
            (np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), 0.3, r"maps \(N, H, W\)"),
            (np.zeros((1, 2, 2)), [[[0, 1], [math.nan, 0]]], 0.3, r"values >= 0.*nan; the arguments are aupro\(anomaly_maps, gt_masks\)"),
            (np.zeros((1, 2, 2)), [[[0, 1], [-1, 0]]], 0.3, r"values >= 0.*-1; the arguments are aupro\(anomaly_maps, gt_masks\)"),
            (np.eye(2)[None], [[[0.1, 0.2], [0.7, 0.2]]], 0.3, r"more than two values from 0.1 to 0.7 as in a map; .*aupro\(anomaly_maps"),
            (None, np.zeros((1, 4, 4)), 0.3, r"expected maps \(N, H, W\) or a list of them, got None"),
            (np.zeros((1, 4, 4)), None, 0.3, r"expected masks \(N, H, W\) or a list of them, got None"),
            (3, "masks", 0.3, "got a int"),
            (np.zeros((1, 4, 4)), "masks", 0.3, "got a str"),
            ([np.zeros((4, 4))], [None], 0.3, r"expected a mask \(H, W\) of numbers, got None"),
            ([[[0.0, 1.0], [2.0]]], np.zeros((1, 2, 2)), 0.3, r"expected a map \(H, W\) of numbers, got a list"),
        ],
    )
    def test_errors_say_what_came(self, maps, masks, limit, message):
        with pytest.raises(MetricError, match=message):
            aupro(maps, masks, fpr_limit=limit)

    @pytest.mark.parametrize("values", [np.float64(0.5), np.float32(1), np.uint8(255), np.bool_(True), np.int64(1)])
    def test_any_two_values_make_a_mask(self, reference, values):
        maps, masks, _ = reference
        assert aupro(maps, [mask.astype(values.dtype) * values for mask in masks]) == aupro(maps, masks)


class TestSpro:
    def test_a_region_is_full_at_its_saturation(self):
        """A region of 8 pixels saturates at 2; the two best pixels are found before any false positive, so everything is found."""
        region = np.zeros((4, 8), bool)
        region[0] = True
        scores = np.zeros((4, 8))
        scores[0, :2] = 1.0
        assert spro([scores], [[region]], [[2]], fpr_limit=0.5) == pytest.approx(1.0)
        assert spro([scores], [[region]], [[4]], fpr_limit=1.0) == pytest.approx(0.5 + 0.5 / 2)

    def test_equals_aupro_with_areas_as_saturations(self, reference):
        from scipy import ndimage

        maps, masks, _ = reference
        regions, saturations = [], []
        for mask in masks:
            numbers, count = ndimage.label(mask, np.ones((3, 3)))
            regions.append([numbers == number for number in range(1, count + 1)])
            saturations.append([float(region.sum()) for region in regions[-1]])
        assert spro(maps, regions, saturations, fpr_limit=0.3) == pytest.approx(aupro(maps, masks), abs=1e-12)

    def test_needs_a_saturation_for_each_region(self):
        with pytest.raises(MetricError, match="saturation > 0 for each of 1 regions"):
            spro([np.zeros((4, 4))], [[np.ones((4, 4))]], [[0]])

    @pytest.mark.parametrize(
        ("regions", "saturations", "message"),
        [
            (None, [[1]], "expected gt_regions as a list with a list for each map, got None"),
            ([[np.eye(2)]], None, "expected saturations as a list with a list for each map, got None"),
            ([[np.eye(2)]], [], "regions and saturations for each map, got 1 and 0"),
            ([[None]], [[1]], r"mask \(H, W\) of numbers, got None; the arguments are spro\(anomaly_maps, gt_regions, saturations\)"),
            ([[-np.eye(2)]], [[1]], r"values >= 0.*-1.*spro\(anomaly_maps"),
            ([[np.array([[0.1, 0.2], [0.3, 0.4]])]], [[1]], "more than two values from 0.1 to 0.4"),
        ],
    )
    def test_errors_say_what_came(self, regions, saturations, message):
        with pytest.raises(MetricError, match=message):
            spro([np.zeros((2, 2))], regions, saturations)


class TestImageMetrics:
    def test_hand_worked(self):
        labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]
        assert auroc(labels, scores) == pytest.approx(3.5 / 4)
        assert average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
        assert f1_max(labels, scores) == pytest.approx(0.8)
        assert iou_max(labels, scores) == pytest.approx(2 / 3)

    def test_decisions(self):
        labels, called = [0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 0]
        assert (recall(labels, called), precision(labels, called)) == (0.5, 0.5)
        assert balanced_accuracy(labels, called) == pytest.approx((0.5 + 0.75) / 2)

    def test_calibration_error(self):
        assert expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.0)
        assert expected_calibration_error([0, 0, 1, 1], [0.9, 0.9, 1.0, 1.0], n_bins=20) == pytest.approx(0.45)
        with pytest.raises(MetricError, match=r"scores in \[0, 1\]"):
            expected_calibration_error([0, 1], [0.0, 2.0])

    @pytest.mark.parametrize(
        ("metric", "labels", "reason"),
        [
            (auroc, [1, 1], "no normal one among 2"),
            (auroc, [0, 0, 0], "no anomalous one among 3"),
            (average_precision, [0, 0], "no anomalous"),
            (f1_max, [0, 0], "no anomalous"),
            (auroc, [], "no anomalous one among 0"),
        ],
    )
    def test_undefined_is_nan_with_a_reason(self, metric, labels, reason):
        found = metric(labels, [0.5] * len(labels))
        assert isinstance(found, Undefined) and math.isnan(found) and reason in found.reason

    def test_the_reason_survives_copies(self):
        value = Undefined("nothing there")
        assert copy.deepcopy(value).reason == pickle.loads(pickle.dumps(value)).reason == "nothing there"
        assert repr(value) == "nan (nothing there)"

    def test_precision_of_no_alarm_is_undefined(self):
        assert "none of 2" in precision([0, 1], [0, 0]).reason

    @pytest.mark.parametrize(
        ("labels", "scores", "message"),
        [
            ([0, 1], [0.1], r"labels \(2,\) and scores \(1,\)"),
            ([0, 2], [0.1, 0.2], "labels of 0 and 1"),
            ([0, 1], [0.1, float("inf")], "1 of 2 are NaN or infinite"),
            ([0, 1], ["a", "b"], "numbers"),
        ],
    )
    def test_errors(self, labels, scores, message):
        with pytest.raises(MetricError, match=message):
            auroc(labels, scores)


class TestStreaming:
    def test_every_metric_is_within_its_stated_error(self, reference):
        maps, masks, _ = reference
        for scores in (maps, maps**8, 1 - (1 - maps) ** 12, np.round(maps, 1)):
            counts = PixelCounts([count_pixels(*pair) for pair in zip(scores, masks, strict=True)])
            exact = {
                "pixel_auroc": auroc(masks, scores),
                "pixel_ap": average_precision(masks, scores),
                "pixel_f1_max": f1_max(masks, scores),
                "pixel_iou_max": iou_max(masks, scores),
                "aupro": aupro(scores, masks),
            }
            found, errors = counts.metrics(), counts.errors()
            assert set(found) == set(errors) == set(exact)
            for name, value in exact.items():
                assert abs(found[name] - value) <= errors[name] + 1e-12, name

    def test_the_stated_error_is_small(self, reference):
        maps, masks, _ = reference
        counts = PixelCounts([count_pixels(*pair) for pair in zip(maps, masks, strict=True)])
        assert max(counts.errors().values()) < 1e-4

    def test_spro_is_within_its_stated_error(self):
        rng = np.random.default_rng(3)
        maps = rng.random((3, 40, 40)).astype(np.float32)
        regions = [[np.zeros((40, 40), bool) for _ in range(2)] for _ in maps]
        for row in regions:
            row[0][3:12, 4:20] = True
            row[1][20:30, 5:9] = row[1][20:30, 30:34] = True
        saturations = [[20.0, 1000.0]] * 3
        counts = PixelCounts([count_pixels(*triple) for triple in zip(maps, regions, saturations, strict=True)], fpr_limit=0.05)
        exact = spro(maps, regions, saturations, fpr_limit=0.05)
        assert abs(counts.metrics()["aupro"] - exact) <= counts.errors()["aupro"] + 1e-12
        assert counts.errors()["aupro"] < 0.02 and counts.is_saturated
        assert not PixelCounts([count_pixels(maps[0], regions[0][0])]).is_saturated

    def test_a_picture_is_some_kilobytes_and_survives_a_file(self, tmp_path):
        rng = np.random.default_rng(0)
        scores, mask = rng.random((500, 500)), np.zeros((500, 500), bool)
        mask[100:140, 100:140] = True
        counts = count_pixels(scores, mask)
        assert sum(array.nbytes for array in counts.arrays().values()) < 200_000 < scores.nbytes
        np.savez_compressed(tmp_path / "counts.npz", **counts.arrays())
        with np.load(tmp_path / "counts.npz") as arrays_:
            again = PictureCounts(**arrays_)
        assert PixelCounts([again]).metrics() == PixelCounts([counts]).metrics()

    def test_counts_are_complete(self, reference):
        maps, masks, _ = reference
        counts = PixelCounts([count_pixels(*pair) for pair in zip(maps, masks, strict=True)])
        assert counts.normal.sum() == (masks == 0).sum() and counts.defective.sum() == (masks > 0).sum()

    def test_undefined_without_defects(self):
        counts = PixelCounts([count_pixels(np.zeros((8, 8)), np.zeros((8, 8)))])
        assert all("no defective pixel in 1 pictures" in value.reason for value in counts.metrics().values())
        assert counts.errors() == {} == counts.curves() and np.isnan(counts.resampled(np.zeros((2, 1), int))["aupro"]).all()
        assert math.isnan(PixelCounts([]).metrics()["aupro"])

    def test_resampling_each_picture_once_changes_nothing(self, reference):
        maps, masks, _ = reference
        counts = PixelCounts([count_pixels(*pair) for pair in zip(maps, masks, strict=True)])
        once = counts.resampled(np.arange(len(maps))[None])
        assert once["aupro"][0] == pytest.approx(counts.metrics()["aupro"], abs=1e-9)
        assert once["pixel_auroc"][0] == pytest.approx(counts.metrics()["pixel_auroc"], abs=1e-9)

    def test_maps_outside_the_scale_are_refused(self):
        with pytest.raises(MetricError, match=r"maps in \[0, 1\]"):
            count_pixels(np.full((4, 4), 1.5), np.zeros((4, 4)))

    def test_curves_run_from_corner_to_corner(self, reference):
        maps, masks, _ = reference
        counts = PixelCounts([count_pixels(*pair) for pair in zip(maps, masks, strict=True)])
        for name in ("roc", "pro"):
            x, y = counts.curves(50)[name]
            assert (x[-1], y[-1]) == pytest.approx((1, 1)) and len(x) <= 52 and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()


class TestBootstrap:
    def test_draws_keep_the_numbers_of_each_kind(self):
        labels = np.array([0, 1, 0, 1, 1])
        draws = resamples(labels, n=50, seed=1)
        assert (labels[draws].sum(axis=1) == 3).all() and len({tuple(row) for row in draws.tolist()}) > 20

    def test_ranking_equals_the_metrics_on_every_draw(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.random(40) > 0.6, rng.random(40).round(1)
        draws = resamples(labels, n=30)
        found = resampled_ranking(labels, scores, draws)
        for metric in (auroc, average_precision, f1_max):
            assert found[metric.__name__] == pytest.approx([metric(labels[some], scores[some]) for some in draws])

    def test_interval_covers_and_narrows_with_more_pictures(self):
        rng = np.random.default_rng(0)
        widths = []
        for size in (40, 640):
            labels = np.arange(size) % 2
            interval = bootstrap(auroc, labels, rng.normal(size=size) + labels, n=200)
            widths.append(interval.high - interval.low)
        assert interval.low < 0.76 < interval.high  # two unit normals one apart: AUROC 0.760
        assert widths[1] < widths[0] / 2

    def test_same_seed_same_interval(self):
        labels, scores = [0, 1] * 10, np.linspace(0, 1, 20)
        assert bootstrap(auroc, labels, scores, n=50) == bootstrap(auroc, labels, scores, n=50)

    def test_errors(self):
        with pytest.raises(MetricError, match="level"):
            percentile_interval([1.0], level=1.0)
        with pytest.raises(MetricError, match="at least one"):
            resamples([0, 1], n=0)


def test_metrics_need_nothing_of_vlad_but_its_errors():
    import ast

    folder = Path(__file__).parents[2] / "vlad/metrics"
    nodes = [node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in names if name.split(".")[0] == "vlad" and not name.startswith("vlad.metrics")}
    assert ours == {"vlad.errors"}
