"""Sentences that a text tower would cut off: the noun is shortened, a state never."""

from __future__ import annotations

import pytest
import torch
from open_clip import SimpleTokenizer
from open_clip.model import CLIP

from vlad import AnomalyDetector, PromptEnsemble
from vlad.backbones import ClipBackbone
from vlad.errors import PromptError, VladWarning


@pytest.fixture(scope="module")
def backbone() -> ClipBackbone:
    torch.manual_seed(0)
    vision = {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    return ClipBackbone(CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text), device="cpu", dtype="float32")


def detector(backbone: ClipBackbone, normal: str, anomalous: str) -> AnomalyDetector:
    prompts = PromptEnsemble.from_states(normal=[normal], anomalous=[anomalous], templates=["a photo of {state}"])
    return AnomalyDetector(backbone=backbone, prompts=prompts, scales=(2,))


def test_tokens_are_counted_as_the_tokenizer_counts(backbone):
    tokenizer, texts = SimpleTokenizer(), ["a nut", "", "in 1234567890 螺母", "word " * 75, "word " * 80]
    assert backbone.most_tokens == 77
    assert (
        backbone.count_tokens(texts)
        == [len(tokenizer.encode(text)) + 2 for text in texts]
        == [4, 2, *backbone.count_tokens(texts)[2:3], 77, 82]
    )


def test_another_tokenizer_is_known_by_what_it_fills(backbone):
    own = ClipBackbone(backbone.model, tokenizer=lambda texts: SimpleTokenizer()(texts), device="cpu", dtype="float32")
    assert own.most_tokens == 77 and own.count_tokens(["a nut", "word " * 80]) == [4, 78]


@pytest.mark.parametrize(
    "where", ["{class_name} seen on a conveyor " + "0123456789 " * 8 + "and %s", "%s {class_name}" + " 0123456789" * 9]
)
def test_a_state_that_would_be_cut_off_is_refused(backbone, where):
    with pytest.raises(PromptError, match=r"has \d+ tokens, CLIP object .* reads 77 and would cut off the rest.*shorten its states"):
        detector(backbone, where % "intact", where % "torn").text_vectors("nut")


def test_a_long_noun_is_shortened_and_that_is_told(backbone):
    wide = "六角螺母带垫圈不锈钢镀锌防松螺栓 " * 4
    one = detector(backbone, "{class_name} intact", "{class_name} broken")
    with pytest.warns(VladWarning, match="makes sentences too long for CLIP object .*, which would cut them off; it reads '"):
        vectors = one.text_vectors(wide)
    assert not torch.equal(vectors[0], vectors[1])
    with pytest.warns(VladWarning, match="too long"):
        assert torch.equal(one.text_vectors(wide), vectors), "told again where the vectors are known"


def test_no_loose_end_stays():
    from vlad.scoring.text import _without_loose_end

    assert _without_loose_end(["nut", "with", "a"]) == ["nut"] and _without_loose_end(["nut", "and", "bolt,"]) == ["nut", "and", "bolt"]
    assert _without_loose_end(["with"]) == ["with"]


def test_the_note_is_in_the_result(backbone):
    import numpy as np

    one = detector(backbone, "{class_name} intact", "{class_name} broken")
    with pytest.warns(VladWarning):
        result = one.predict(np.zeros((64, 64, 3), np.uint8), class_name="六角螺母带垫圈不锈钢镀锌防松螺栓 " * 4)
    assert any("too long" in note for note in result.to_dict()["warnings"])
