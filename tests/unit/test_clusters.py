"""The search by clusters beside the exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError
from vlad.scoring.clusters import FEWEST, Clusters
from vlad.scoring.nearest import MemoryBank
from vlad.synthetic import ProductLine


def tokens(count: int, seed: int) -> torch.Tensor:
    """Unit tokens (count, 16) about forty directions, as those of a surface are."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    kinds = torch.randint(40, (count,), generator=generator)
    return F.normalize(directions[kinds] + 0.4 * torch.randn(count, 16, generator=generator), dim=1)


def filled(count: int = 4000, owners: int = 4, *, is_exact: bool = False) -> MemoryBank:
    bank = MemoryBank()
    bank.is_exact = is_exact
    for owner in range(owners):
        bank.add(tokens(count // owners, owner), torch.full((count // owners,), owner))
    return bank


class TestBank:
    def test_every_row_is_in_one_cluster(self):
        rows, owners = tokens(3000, 1), torch.arange(3000)
        clusters = Clusters.of(rows, owners)
        assert int(clusters.sizes.sum()) == 3000 and len(clusters.centres) == round(3000**0.5)
        assert torch.equal(clusters.owners.sort().values, owners) and torch.equal(clusters.rows, rows[clusters.owners])
        found = (clusters.rows @ clusters.centres.T).argmax(1)
        assert torch.equal(found, torch.repeat_interleave(torch.arange(len(clusters.sizes)), clusters.sizes))

    def test_the_nearest_of_the_clusters_asked(self):
        """Against a loop over tokens."""
        from vlad.scoring.clusters import PROBES

        clusters = Clusters.of(tokens(3000, 1), torch.arange(3000) % 5)
        query = tokens(30, 9)
        for without in (None, 2):
            cosines, nearest = clusters.nearest(query, without)
            for token, cosine, row in zip(query, cosines, nearest, strict=True):
                asked = (clusters.centres @ token).topk(PROBES).indices.tolist()
                ends = clusters.sizes.cumsum(0).tolist()
                inside = [row for one in asked for row in range(ends[one] - int(clusters.sizes[one]), ends[one])]
                allowed = [row for row in inside if without is None or int(clusters.owners[row]) != without]
                assert float(cosine) == pytest.approx(float((clusters.rows[allowed] @ token).max()), abs=1e-6) and int(row) in allowed

    def test_the_farthest_tokens_have_exact_distances_and_none_is_nearer(self):
        bank, exact = filled(), filled(is_exact=True)
        query = torch.cat([tokens(1000, 9), F.normalize(torch.randn(10, 16, generator=torch.Generator().manual_seed(3)), dim=1)])
        found, true = bank.distances(query), exact.distances(query)
        assert (found >= true - 1e-6).all() and float((found <= true + 1e-6).float().mean()) > 0.9
        assert float(found.topk(10).values.mean()) == pytest.approx(float(true.topk(10).values.mean()), rel=1e-5)
        assert bank.distances(bank.rows[:64]).max() < 1e-12, "a token that is remembered has no distance"

    def test_without_an_owner_as_if_it_had_never_been_added(self):
        query = tokens(200, 0)  # which are owner 0's own
        found, true = filled().distances(query, without=0), filled(is_exact=True).distances(query, without=0)
        assert (found >= true - 1e-6).all() and float((found - true).mean()) < 0.02 * float(true.mean())
        alone = filled(owners=1)
        with pytest.raises(ConfigError, match="there is no normal picture to compare with"):
            alone.distances(query, without=0)

    def test_a_token_whose_clusters_are_all_of_the_one_left_out_is_searched_in_all(self):
        bank = filled(2400, 2)
        far = F.normalize(torch.full((300, 16), 1.0) + 0.01 * torch.randn(300, 16), dim=1)
        bank.add(far, torch.full((300,), 7))
        exact = filled(2400, 2, is_exact=True)
        assert torch.allclose(bank.distances(far, without=7), exact.distances(far), atol=1e-6)

    def test_a_small_bank_is_searched_exactly(self):
        assert FEWEST > 1600
        bank, exact = filled(1600), filled(1600, is_exact=True)
        assert torch.equal(bank.distances(tokens(50, 9)), exact.distances(tokens(50, 9))) and set(bank.state()) == {"rows", "owners"}

    def test_the_state_gives_the_same_bank(self):
        bank = filled()
        again = MemoryBank()
        again.is_exact = False
        again.load_state(bank.state())
        query = tokens(300, 9)
        assert torch.equal(again.distances(query), bank.distances(query)) and torch.equal(again.state()["sizes"], bank.state()["sizes"])
        for name, value in (("sizes", bank.state()["sizes"] + 1), ("centres", torch.zeros(3, 5))):
            with pytest.raises(ConfigError, match=name):
                again.load_state(bank.state() | {name: value})

    def test_what_is_added_and_removed_counts_at_once(self):
        bank = filled()
        query = tokens(50, 50)
        assert bank.distances(query).mean() > 0.01
        bank.add(query, torch.full((50,), 9))
        assert torch.equal(bank.copy().distances(query), torch.zeros(50))
        bank.remove(9)
        assert bank.distances(query).mean() > 0.01 and len(bank) == 4000


class TestDetector:
    @pytest.fixture(scope="class")
    def lite(self):
        return LiteBackbone(device="cpu")

    @pytest.fixture(scope="class")
    def pictures(self):
        line = ProductLine("gear", 3, 160)
        return [line.sample(number).image for number in range(4)], line.sample(100, "crack").image

    def test_scores_as_exact_ones_and_a_folder_that_gives_them_again(self, lite, pictures, tmp_path):
        good, bad = pictures
        detector, exact = (AnomalyDetector(lite, rotations=2, search=search).fit(good) for search in ("clusters", "exact"))
        assert len(detector.memory.banks["patches"]) > FEWEST and "centres" in detector.memory.banks["patches"].state()
        found, true = detector.predict(bad), exact.predict(bad)
        assert found.pred_score == pytest.approx(true.pred_score, rel=0.01) and found.threshold == pytest.approx(true.threshold, rel=0.02)
        assert np.mean(np.abs(found.anomaly_map - true.anomaly_map)) < 0.01 * true.anomaly_map.mean()
        loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=lite).predict(bad)
        assert loaded.pred_score == found.pred_score and (loaded.anomaly_map == found.anomaly_map).all()

    def test_changed_afterwards_the_threshold_follows(self, lite, pictures, tmp_path):
        good, bad = pictures
        detector, exact = (AnomalyDetector(lite, rotations=2, search=search).fit(good) for search in ("clusters", "exact"))
        changed = detector.copy(search="exact")
        assert changed.predict(bad).pred_score == pytest.approx(exact.predict(bad).pred_score, abs=1e-6)
        assert changed.predict(bad).threshold == pytest.approx(exact.predict(bad).threshold, abs=1e-6)
        assert detector.memory.settings.search == "clusters", "the other one's is as it was"
        with pytest.raises(ConfigError, match="with search=None instead of 'clusters' the threshold has to be calibrated anew"):
            AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=lite, search="exact")

    def test_folders_of_before_are_searched_exactly(self, lite, pictures, tmp_path):
        import json

        good, _ = pictures
        folder = AnomalyDetector(lite, rotations=2, search="exact").fit(good).save(tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        del config["sha256"], config["settings"]["search"], config["memory"]["settings"]["search"]
        (folder / "config.json").write_text(json.dumps(config | {"format_version": 4}))
        loaded = AnomalyDetector.load(folder, backbone=lite)
        assert loaded.config.search == loaded.memory.settings.search == "exact"

    def test_what_is_no_search(self, lite):
        with pytest.raises(ConfigError, match="search must be 'clusters' or 'exact', got 'fast'"):
            AnomalyDetector(lite, search="fast")
