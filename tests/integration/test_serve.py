"""The OpenAI-compatible backend against `transformers serve`, a real server, over a real connection on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers.cli.serve", reason="needs transformers[serving]")
pytest.importorskip("uvicorn", reason="needs transformers[serving]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiny_vlms
from waiting import LIMIT, wait_until

from vlad.errors import VlmError
from vlad.vlm.backends import load_vlm
from vlad.vlm.backends.base import Limits, Message
from vlad.vlm.inspector import Inspector

RED, BLUE = (np.full((60, 80, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
CHAT = [Message("system", ("Look.",)), Message("user", ("one", RED, "two", BLUE, "which?"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_vlms.save_smolvlm(tmp_path_factory.mktemp("served") / "random-smolvlm")


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory) -> Iterator[str]:
    """A server of a tiny SmolVLM with random weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", folder, "--host", "127.0.0.1"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*map(str, command), "--port", str(port), "--device", "cpu"], stdout=stream, stderr=stream, env=environment
        )

    def answers() -> bool:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=LIMIT).close()
            return True
        return False

    try:
        try:
            wait_until(answers, "transformers serve answered", process=server)
        except AssertionError as error:
            pytest.fail(f"{error}: {log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=LIMIT)


def test_two_pictures_and_a_chat(url, folder):
    vlm = load_vlm(f"{url}#{folder}")
    reply = vlm.chat(CHAT, limits=Limits(tokens=8))
    assert reply.text and reply.finish == "length"
    longer = [*CHAT, Message("assistant", ("one",)), Message("user", ("and why?",))]
    assert vlm.chat(longer, limits=Limits(tokens=8)).text


def test_it_streams_what_it_says(url, folder):
    pieces: list[str] = []
    reply = load_vlm(f"{url}#{folder}").chat(CHAT, limits=Limits(tokens=8), schema={"type": "object"}, on_text=pieces.append)
    assert len(pieces) > 1 and "".join(pieces) == reply.text


def test_an_answer_that_makes_no_sense_leaves_the_verdict_alone(url, folder, detector, golden):
    inspector = Inspector(detector, load_vlm(f"{url}#{folder}"), max_side=64, limits=Limits(tokens=8))
    answer = inspector.ask(golden.pictures()[0], threshold=0.01)
    assert answer.verdict == "anomalous" and answer.defects and answer.parse_failures == 1
    assert "random-smolvlm" in answer.model and "cut off after 8 tokens" in str(answer.problems)


def test_a_name_is_wanted_only_by_a_server_that_cannot_list_its_model(url, folder):
    """Which kind it is depends on the version of transformers: of old it failed to list without a cache of the hub, now it lists the
    model that it was started with. tests/unit/test_vlm_server.py has both kinds in every environment."""
    try:
        with urllib.request.urlopen(f"{url}/models") as answer:
            listed = [model["id"] for model in json.load(answer)["data"]]
    except urllib.error.HTTPError:
        with pytest.raises(VlmError, match=r"lists no models .*; name the model as http://127\.0\.0\.1:\d+/v1#MODEL"):
            load_vlm(url).chat(CHAT)
    else:
        assert listed == [str(folder)]
        assert load_vlm(url).chat(CHAT, limits=Limits(tokens=8)).text


def test_a_model_that_it_does_not_have_is_named(url):
    with pytest.raises(VlmError, match=r"^no/such-model at .* refused the question \(400\).*it may not have this model"):
        load_vlm(f"{url}#no/such-model").chat(CHAT, limits=Limits(tokens=4))
