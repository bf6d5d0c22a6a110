"""Every preset, full size with random weights, from a hub on this machine: are its tokens those of the library that the model comes from,
and how long do the first and the second start take.

    python eval/bench/hub.py --out eval/results/hub.md

The first start downloads over loopback, so its time is that of a disk; the second finds everything in the cache, offline. Each is a process
of its own, imports included.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parent))
from loopback_hub import Hub, serve

_PICTURE = "np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)"

_MAKE = f"""
import sys, json, pathlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np, torch
from loopback_hub import make_repository
from vlad.backbones.preprocessing import preprocess
from vlad.backbones.base import Preprocessing
name, source, folder = sys.argv[1:]
repo, model = make_repository(source, pathlib.Path(folder))
cfg = getattr(model, "pretrained_cfg", None) or getattr(getattr(model, "visual", None), "preprocess_cfg", None) or {{}}
if source.startswith("timm:"):
    import timm
    cfg = timm.get_pretrained_cfg(source.removeprefix("timm:")).to_dict()
elif not source.startswith("hf-hub:"):
    import open_clip
    architecture, _, tag = source.partition(":")
    cfg = open_clip.get_pretrained_cfg(architecture, tag)
else:
    cfg = {{"mean": (0.5,) * 3, "std": (0.5,) * 3}}
size = 448 if source.startswith("timm:") else model.visual.image_size[0]
wanted = Preprocessing(size, tuple(cfg["mean"]), tuple(cfg["std"]))
pixels = preprocess([{_PICTURE}], wanted)
with torch.inference_mode():
    if not source.startswith("timm:"):
        tokens = model.encode_image(pixels)
    elif "resnet" in source:
        from torch.nn import functional as F
        parts = [F.avg_pool2d(one, 3, 1, 1, count_include_pad=False) for one in
                 model.forward_intermediates(pixels, indices=[2, 3], intermediates_only=True)]
        parts = [F.normalize(F.interpolate(one, size=parts[0].shape[2:], mode="bilinear") if one is not parts[0] else one, dim=1)
                 for one in parts]
        tokens = torch.cat(parts, 1).flatten(2).transpose(1, 2)
    else:
        tokens = model.forward_features(pixels)[:, model.num_prefix_tokens:]
np.save(pathlib.Path(folder) / "expected.npy", tokens.numpy())
print(json.dumps([repo, sum(p.numel() for p in model.parameters())]))
"""

_START = f"""
import sys, time
start = time.perf_counter()
import numpy as np
from vlad.backbones import load_backbone
backbone = load_backbone(sys.argv[1], device="cpu", dtype="float32")
print(time.perf_counter() - start)
from vlad.backbones.preprocessing import preprocess
picture = {_PICTURE}
if hasattr(backbone, "encode_image"):
    found = backbone.encode_image(preprocess([picture], backbone.preprocessing)).image
else:
    found = backbone.encode_patches([picture])[0].tokens[None]
print(np.abs(found.numpy() - np.load(sys.argv[2])).max())
"""

_AUTO = """
import sys, time
start = time.perf_counter()
import numpy as np
from vlad import AnomalyDetector
detector = AnomalyDetector.from_pretrained("auto", device="cpu", dtype="float32")
words = detector.model_name
detector.ready_for_references()
print(time.perf_counter() - start)
print(words, "|", detector.model_name, "|", detector.scorer, detector.text_weight)
"""


def main(out: Path = Path("eval/results/hub.md"), only: str = "") -> None:
    """Write the table."""
    from vlad.backbones import PRESETS

    rows = ["| preset | parameters | largest difference from its library | first start, s | second start, s |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as place, serve() as hub:
        folder = Path(place)
        for name, preset in PRESETS.items():
            if preset.source == "lite" or (only and name not in only.split(",")):
                continue
            repo, count = json.loads(_run(_MAKE, [name, preset.source, str(folder / name)], hub, folder).splitlines()[-1])
            hub.repositories[repo] = folder / name
            expected = str(folder / name / "expected.npy")
            first, difference = map(float, _run(_START, [name, expected], hub, folder).split())
            second, _ = map(float, _run(_START, [name, expected], hub, folder, offline=True).split())
            rows.append(f"| `{name}` | {count / 1e6:.0f} M | {difference:.1e} | {first:.1f} | {second:.1f} |")
            print(rows[-1], flush=True)
            if name not in ("winclip", "dinov2-small"):
                shutil.rmtree(folder / name)
                shutil.rmtree(folder / "cache" / f"models--{repo.replace('/', '--')}")
        if not only:
            first_line, told = _run(_AUTO, [], hub, folder).splitlines()
            second_line, _ = _run(_AUTO, [], hub, folder, offline=True).splitlines()
            words, both, how = (part.strip() for part in told.split("|"))
            rows.append(f"| `auto`: {words}; with references {both}, {how} |  |  | {float(first_line):.1f} | {float(second_line):.1f} |")
    title = "# Every preset from a hub on this machine\n\n"
    head = (
        f"Random weights in the real architectures, float32, {platform.machine()}, {os.cpu_count()} cores; `python eval/bench/hub.py`.\n\n"
    )
    note = "\nThe weights being random, this says that loading is right, and nothing of what a model finds.\n"
    out.write_text(title + head + "\n".join(rows) + "\n" + note, encoding="utf-8")


def _run(code: str, arguments: list[str], hub: Hub, folder: Path, *, offline: bool = False) -> str:
    away = {
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=os.environ | away, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


if __name__ == "__main__":
    typer.run(main)
