"""Fixtures for all tests: the tiny deterministic CLIP of the golden files, and pictures. No test reaches a network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub client
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before anything imports torch, as in vlad.cli
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # side by side they share the cores instead of contending for each
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file

PARITY = Path(__file__).parent / "parity"

# A busy machine draws examples slowly; that says nothing about the code.
settings.register_profile("vlad", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vlad")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for whole folders: each holds PyTorch and a few models, so more would need memory rather than cores. Files and tests
    that are named run in this process, where a debugger and `-s` work."""
    return 2 if all(Path(argument).is_dir() for argument in config.args) else 0


def fill_deterministically(model: torch.nn.Module) -> torch.nn.Module:
    """Weights as the golden files state them: one generator for each parameter, seeded with the CRC-32 of its name."""
    state = {}
    for name, tensor in model.state_dict().items():
        if name == "logit_scale":
            state[name] = tensor
            continue
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape)).astype(np.float32)
        if ".ln_" in f".{name}" and name.endswith("weight"):
            values = 1 + 0.1 * z
        elif name.endswith("bias"):
            values = 0.1 * z
        else:
            values = z / np.sqrt(tensor.shape[-1] if tensor.ndim > 1 else 1)
        state[name] = torch.from_numpy(values)
    model.load_state_dict(state, strict=True)
    return model.eval()


@dataclass(frozen=True)
class Golden:
    """A peer's outputs on the tiny CLIP: settings and sentences, and tensors by name."""

    info: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def pictures(self, kind: str = "query") -> list[np.ndarray]:
        return list(self.tensors[f"{kind}_pictures"].numpy())


@pytest.fixture(scope="session")
def golden() -> Golden:
    info = json.loads((PARITY / "winclip_reference.json").read_text())
    return Golden(info, load_file(PARITY / "winclip_reference.safetensors"))


@pytest.fixture(scope="session")
def tiny_clip(golden: Golden) -> torch.nn.Module:
    """The open_clip model of the golden files: ViT of 3 layers on 6 x 6 patches of 96 x 96 pixels."""
    import open_clip

    return fill_deterministically(open_clip.CLIP(**golden.info["model_config"]))


@pytest.fixture(scope="session")
def backbone(tiny_clip: torch.nn.Module) -> Any:
    from vlad.backbones import ClipBackbone

    return ClipBackbone(tiny_clip, name="tiny deterministic CLIP", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def prompts(golden: Golden) -> Any:
    from vlad.prompts import PromptEnsemble

    return PromptEnsemble.from_sentences(normal=golden.info["normal_prompts"], anomalous=golden.info["anomalous_prompts"])


@pytest.fixture
def detector(backbone: Any, prompts: Any) -> Any:
    from vlad import AnomalyDetector

    return AnomalyDetector(backbone=backbone, prompts=prompts, scales=(2, 3), temperature=0.07)


@pytest.fixture
def picture_folder(tmp_path: Path, golden: Golden) -> Path:
    """A folder with the three golden queries as PNG."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(golden.pictures()):
        Image.fromarray(picture).save(folder / f"part_{number}.png")
    return folder


@pytest.fixture(scope="session")
def gears() -> list[np.ndarray]:
    """Nine small gears of one line as uint8 (160, 160, 3); the third and the eighth are cracked."""
    from vlad.synthetic import ProductLine

    line = ProductLine("gear", 3, 160)
    return [line.sample(number, "crack" if number in (2, 7) else None).image for number in range(9)]
