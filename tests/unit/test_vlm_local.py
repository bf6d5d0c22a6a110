"""The transformers backend on the real architectures with tiny random weights, saved by the tests in the hub's file format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra vlad-anomaly[vlm]")
pytest.importorskip("num2words", reason="needs the extra vlad-anomaly[vlm]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiny_vlms

from vlad.errors import VlmError
from vlad.vlm.backends import load_vlm
from vlad.vlm.backends.base import Limits, Message
from vlad.vlm.backends.local import LocalBackend, _split
from vlad.vlm.inspector import Inspector

RED, BLUE = (np.full((60, 80, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))


@pytest.fixture(scope="module", params=["smolvlm", "qwen2", "qwen3"])
def folder(request, tmp_path_factory) -> Path:
    return getattr(tiny_vlms, f"save_{request.param}")(tmp_path_factory.mktemp("vlms") / f"random-{request.param}")


@pytest.fixture(scope="module")
def vlm(folder) -> LocalBackend:
    return LocalBackend(folder, device="cpu")


def chat(*parts: Any) -> list[Message]:
    return [Message("system", ("Look.",)), Message("user", parts)]


def test_the_pictures_are_seen_in_their_order(vlm, monkeypatch):
    """Random weights say nothing sensible, but other pictures must give other logits, and so must their order."""
    assert vlm.letters(chat(RED, "which?"), ["A", "B"]) is None  # of some 260 tokens, the two letters are never the likelier half
    monkeypatch.setattr("vlad.vlm.backends.local._LEAST_MASS", 0.0)
    shares = [vlm.letters(chat("one", *pair, "which?"), ["A", "B"]) for pair in ((RED, BLUE), (BLUE, RED), (RED, RED))]
    assert all(sum(share.values()) == pytest.approx(1) for share in shares)
    assert len({round(share["A"], 6) for share in shares}) == 3


def test_a_chat_streams_and_repeats_itself(vlm):
    messages = [*chat("what?", RED), Message("assistant", ("red",)), Message("user", ("and now?", BLUE))]
    pieces: list[str] = []
    reply = vlm.chat(messages, limits=Limits(tokens=12), on_text=pieces.append)
    assert reply.finish == "length" and "".join(pieces).strip() == reply.text
    assert vlm.chat(messages, limits=Limits(tokens=12)).text == reply.text


def test_it_stops_at_a_text(vlm):
    whole = vlm.chat(chat("what?", RED), limits=Limits(tokens=24)).text
    word = whole[3]
    reply = vlm.chat(chat("what?", RED), limits=Limits(tokens=24, stop=(word,)))
    assert reply.text == whole[: whole.index(word)].strip() and reply.finish == "stop"


def test_it_stops_in_time(vlm):
    reply = vlm.chat(chat("what?", RED), limits=Limits(tokens=4000, seconds=0.0))
    assert reply.finish == "time"


def test_it_loads_by_the_name_that_ask_takes_and_answers(folder, detector, golden):
    backend = load_vlm(str(folder))
    assert backend is not None and folder.name in backend.name
    inspector = Inspector(detector, backend, max_side=64, limits=Limits(tokens=5))
    answer = inspector.ask(golden.pictures()[0], threshold=0.01)
    assert answer.verdict == "anomalous" and answer.defects
    assert answer.parse_failures == 1 and any("cut off after 5 tokens" in problem for problem in answer.problems)
    assert folder.name in answer.model and "tiny deterministic CLIP" in answer.model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red END blue", ("red ", "", True)),
        ("red EN", ("red ", "EN", False)),
        ("red ENo", ("red ENo", "", False)),
        ("\n\nEND", ("", "", True)),
        ("red\n", ("red", "\n", False)),
    ],
)
def test_texts_that_may_begin_a_stop_are_held_back(text, expected):
    assert _split(text, ("END", "\n\n")) == expected


def test_a_model_that_is_not_there_is_named_at_once(tmp_path):
    with pytest.raises(VlmError, match=r"no/such-model: it is not in the cache .* \(HF_HUB_OFFLINE is set\); fetch it .*hf download"):
        load_vlm("no/such-model")
    with pytest.raises(VlmError, match=r"'gpt-4o': expected .* by name \(smolvlm2, qwen3-vl, qwen3-vl-4b, .*\), hub id"):
        load_vlm("gpt-4o")
    with pytest.raises(VlmError, match=r"write http://127\.0\.0\.1:8000/v1"):
        load_vlm("127.0.0.1:8000/v1")
    with pytest.raises(VlmError, match="got int"):
        load_vlm(5)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(VlmError, match="expected an image-text-to-text model"):
        LocalBackend(tmp_path)
