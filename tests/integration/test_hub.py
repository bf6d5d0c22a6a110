"""The first day with a hub, rehearsed against one on this machine: real architectures by name, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "eval" / "bench"))

from loopback_hub import Hub, serve  # noqa: E402

FETCH = (
    "from vlad.backbones.hub import fetch_file; print(fetch_file('org/model', ('model.safetensors', 'pytorch_model.bin'), what='a model'))"
)


@pytest.fixture
def hub():
    with serve() as found:
        yield found


def run(hub: Hub, cache: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process for which this is the hub."""
    away = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | away | environment, capture_output=True, text=True, check=False
    )


def add(hub: Hub, folder: Path, state: str = "", *, name: str = "model.safetensors", size: int = 300_000) -> bytes:
    """The repository org/model with one file."""
    content = bytes(range(251)) * (size // 251)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    hub.repositories["org/model"] = folder
    hub.states["org/model"] = state
    return content


class TestFetching:
    def test_the_first_use_downloads_with_progress_and_the_second_is_offline(self, hub, tmp_path):
        content = add(hub, tmp_path / "repo")
        first = run(hub, tmp_path / "cache", FETCH, TQDM_POSITION="-1")  # as on a terminal
        assert first.returncode == 0 and Path(first.stdout.strip()).read_bytes() == content
        assert "model.safetensors" in first.stderr and "100%" in first.stderr, "its progress"
        before = len(hub.requests)
        second = run(hub, tmp_path / "cache", FETCH)
        assert second.stdout == first.stdout and len(hub.requests) == before

    def test_a_cut_connection_is_gone_on_with(self, hub, tmp_path):
        content = add(hub, tmp_path / "repo", "cut", size=30_000_000)
        done = run(hub, tmp_path / "cache", FETCH)
        assert done.returncode == 0 and Path(done.stdout.strip()).read_bytes() == content
        ranges = [asked for method, _, asked in hub.asked_for("model.safetensors") if method == "GET"]
        assert ranges[0] == "" and len(ranges) == 3, "two cuts"
        assert all(asked.startswith(("bytes=1", "bytes=2")) for asked in ranges[1:]), "it begins where it was cut"

    def test_the_other_name_is_tried(self, hub, tmp_path):
        add(hub, tmp_path / "repo", name="pytorch_model.bin")
        assert run(hub, tmp_path / "cache", FETCH).stdout.strip().endswith("pytorch_model.bin")

    def test_what_came_damaged_is_not_kept(self, hub, tmp_path):
        content = add(hub, tmp_path / "repo", "damaged")
        failed = run(hub, tmp_path / "cache", FETCH)
        assert "came damaged: its hash is not the one that the hub states" in failed.stderr and "run this again" in failed.stderr
        hub.states.clear()
        again = run(hub, tmp_path / "cache", FETCH)
        assert again.returncode == 0 and Path(again.stdout.strip()).read_bytes() == content


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("state", "reason", "advice"),
        [
            ("gated", "open only to those who have accepted its terms", r"Accept them at {address}/org/model, then run `hf auth login`"),
            ("private", "there is no repository org/model, or it is private", "if it was moved, give its new name"),
        ],
    )
    def test_a_repository_that_is_not_open(self, hub, tmp_path, state, reason, advice):
        add(hub, tmp_path / "repo", state)
        failed = run(hub, tmp_path / "cache", FETCH)
        assert failed.returncode == 1 and "WeightsNotFoundError" in failed.stderr
        assert reason in failed.stderr and advice.format(address=hub.address) in failed.stderr

    def test_a_file_that_was_moved(self, hub, tmp_path):
        add(hub, tmp_path / "repo", name="moved.safetensors")
        failed = run(hub, tmp_path / "cache", FETCH)
        assert "the repository org/model holds none of model.safetensors, pytorch_model.bin" in failed.stderr
        assert f"Look at {hub.address}/org/model: if they were moved" in failed.stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there to stand for a full disk")
    def test_a_full_disk(self, hub, tmp_path):
        add(hub, tmp_path / "repo")
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n{FETCH}"
        failed = run(hub, tmp_path / "cache", code)
        assert (
            "the disk is full or a quota is used up while org/model comes" in failed.stderr
            and f"on another disk than {tmp_path / 'cache'}" in failed.stderr
        )
        left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1000]
        assert not left, "nothing half is left"

    def test_a_hub_that_stops_sending(self, hub, tmp_path):
        add(hub, tmp_path / "repo", "slow")
        failed = run(hub, tmp_path / "cache", FETCH, HF_HUB_DOWNLOAD_TIMEOUT="1")
        assert "the hub stopped sending while org/model came" in failed.stderr and "HF_HUB_DOWNLOAD_TIMEOUT" in failed.stderr

    def test_auto_says_why_it_falls_back(self, hub, tmp_path):
        code = "from vlad import AnomalyDetector; print(AnomalyDetector.from_pretrained('auto', device='cpu').backbone.source)"
        fallen = run(hub, tmp_path / "cache", code)
        assert (
            fallen.stdout.strip() == "lite" and "there is no repository timm/vit_base_patch16_plus_clip_240.laion400m_e31" in fallen.stderr
        )


REHEARSE = """
import json, sys, pathlib
sys.path.insert(0, "eval/bench")
import loopback_hub
loopback_hub.make_shallow()
import numpy as np, torch
from vlad import AnomalyDetector
from vlad.backbones import PRESETS, load_backbone
from vlad.backbones.preprocessing import preprocess

names, address, folder = json.loads(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
picture = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
for name in names:
    place = folder / name
    repo, model = loopback_hub.make_repository(PRESETS[name].source, place)
    print(json.dumps({"repo": repo, "folder": str(place)}), flush=True)
    sys.stdin.readline()  # until it is served
    backbone = load_backbone(name, device="cpu", dtype="float32")
    with torch.inference_mode():
        pixels = preprocess([picture], backbone.preprocessing)
        if hasattr(backbone, "encode_image"):
            found = backbone.encode_image(pixels, patches=True).image
            expected = model.encode_image(pixels)
        elif "resnet" in name:
            found, expected = backbone.encode_patches([picture])[0].tokens[None], None
            maps = model.forward_intermediates(pixels, indices=list(backbone.layers), intermediates_only=True)
            expected = backbone._merge([one.float() for one in maps]).flatten(2).transpose(1, 2)
        else:
            found = backbone.encode_patches([picture])[0].tokens[None]
            expected = model.forward_features(pixels)[:, model.num_prefix_tokens:]
    print(json.dumps({"difference": float((found - expected).abs().max()), "mean": list(backbone.preprocessing.mean),
                      "size": backbone.preprocessing.size, "source": backbone.source}), flush=True)
"""


class TestEveryPreset:
    def test_by_name(self, hub, tmp_path):
        from vlad.backbones import PRESETS

        names = [name for name, preset in PRESETS.items() if preset.source != "lite"]
        away = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", REHEARSE, json.dumps(names), hub.address, str(tmp_path / "repos")]
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | away, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            for name in names:
                made = json.loads(process.stdout.readline())
                hub.repositories[made["repo"]] = Path(made["folder"])
                process.stdin.write("\n")
                process.stdin.flush()
                found = json.loads(process.stdout.readline())
                assert found["difference"] < 1e-6 * (1 if name != "wide-resnet50" else 10), name
                assert found["source"] in (name, PRESETS[name].source), name
                if name.startswith("siglip"):
                    assert found["mean"] == [0.5] * 3
                elif name.startswith("tips"):
                    assert found["mean"] == [0.0] * 3
                for file in Path(made["folder"]).iterdir():
                    file.unlink()
        assert process.returncode == 0


ASK = """
import sys
import numpy as np
from vlad.vlm.backends.base import Limits, Message
from vlad.vlm.backends.local import LocalBackend
backend = LocalBackend(sys.argv[1], device="cpu", dtype="float32")
print(backend.name)
print(backend.chat([Message("user", ("What?", np.zeros((64, 64, 3), np.uint8)))], limits=Limits(tokens=4)).finish)
"""


class TestVlms:
    """Tiny models of the real architectures under the names of the presets."""

    @pytest.mark.parametrize(("preset", "save"), [("smolvlm2", "save_smolvlm"), ("qwen3-vl", "save_qwen3"), ("gemma3-4b", "save_gemma3")])
    def test_the_first_use_and_the_second_offline(self, hub, tmp_path, preset, save):
        pytest.importorskip("transformers", reason="the extra vlad-anomaly[vlm] is not installed")
        import tiny_vlms

        from vlad.vlm.backends.local import PRESETS

        hub.repositories[PRESETS[preset]] = getattr(tiny_vlms, save)(tmp_path / "model")
        code = ASK.replace("sys.argv[1]", repr(preset))
        first = run(hub, tmp_path / "cache", code)
        assert first.returncode == 0 and PRESETS[preset].rpartition("/")[2] in first.stdout, first.stderr[-500:]
        before = len(hub.requests)
        second = run(hub, tmp_path / "cache", code, HF_HUB_OFFLINE="1")
        assert second.stdout == first.stdout and len(hub.requests) == before

    def test_one_that_is_gated(self, hub, tmp_path):
        pytest.importorskip("transformers", reason="the extra vlad-anomaly[vlm] is not installed")
        from vlad.vlm.backends.local import PRESETS

        hub.repositories[PRESETS["gemma3-4b"]] = tmp_path
        hub.states[PRESETS["gemma3-4b"]] = "gated"
        failed = run(hub, tmp_path / "cache", ASK.replace("sys.argv[1]", "'gemma3-4b'"))
        assert "VlmError" in failed.stderr and "is open only to those who have accepted its terms. Accept them at" in failed.stderr


PUSH = """
import sys
from vlad import AnomalyDetector
from vlad.synthetic import ProductLine
line = ProductLine("washer", 3, 160)
detector = AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1).fit([line.sample(number).image for number in range(3)])
print(detector.predict(line.sample(9).image).pred_score)
print(detector.push_to_hub("org/washer", token="hf_none"))
"""
PULL = """
from vlad import AnomalyDetector
from vlad.synthetic import ProductLine
detector = AnomalyDetector.from_pretrained("org/washer", device="cpu")
print(detector.predict(ProductLine("washer", 3, 160).sample(9).image).pred_score, len(detector.references))
"""


class TestSharedDetectors:
    def test_pushed_and_fetched_it_gives_the_same_score(self, hub, tmp_path):
        hub.writable = tmp_path / "hub"
        pushed = run(hub, tmp_path / "mine", PUSH)
        assert pushed.returncode == 0, pushed.stderr
        score, address = pushed.stdout.split()
        assert address == f"{hub.address}/org/washer"
        there = {path.name for path in hub.repositories["org/washer"].iterdir()}
        assert {"config.json", "memory.safetensors", "vlad_detector.json", "README.md"} <= there
        assert 'from_pretrained("org/washer")' in (hub.repositories["org/washer"] / "README.md").read_text()
        fetched = run(hub, tmp_path / "theirs", PULL)
        assert fetched.returncode == 0 and fetched.stdout.split() == [score, "3"], fetched.stderr
        before = len(hub.requests)
        again = run(hub, tmp_path / "theirs", PULL, HF_HUB_OFFLINE="1")
        assert again.stdout == fetched.stdout and len(hub.requests) == before

    def test_a_file_that_is_another_than_listed(self, hub, tmp_path):
        hub.writable = tmp_path / "hub"
        assert run(hub, tmp_path / "mine", PUSH).returncode == 0
        with (hub.repositories["org/washer"] / "memory.safetensors").open("ab") as file:
            file.write(b"more")
        failed = run(hub, tmp_path / "theirs", PULL)
        assert "memory.safetensors is not the file that vlad_detector.json lists" in failed.stderr

    @pytest.mark.parametrize("listed", ['{"files": {"../config.json": "0"}}', '{"files": {}}', "[]", "no json"])
    def test_a_damaged_list(self, hub, tmp_path, listed):
        (tmp_path / "repo").mkdir()
        (tmp_path / "repo" / "vlad_detector.json").write_text(listed)
        hub.repositories["org/washer"] = tmp_path / "repo"
        failed = run(hub, tmp_path / "cache", PULL)
        assert "org/washer: its vlad_detector.json is damaged" in failed.stderr and not hub.asked_for("config.json")

    def test_nobody_may_write(self, hub, tmp_path):
        failed = run(hub, tmp_path / "mine", PUSH)
        assert "org/washer: could not be written" in failed.stderr and "hf auth login" in failed.stderr
