"""Time and peak memory of a full WinCLIP pass on the real architecture, by batch size and precision.

    python eval/bench/winclip_pass.py [--model winclip|random|lite] [--device cpu] [--repeats 3]

`random` is ViT-B-16-plus-240 with random weights: time and memory do not depend on the weights, detection does. Every setting runs in a
process of its own; the peak is that of the passes, without loading (Linux). Settings run one after the other, ratios are
of medians of one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def measure(model: str, device: str, dtype: str, batch: int, repeats: int) -> dict[str, Any]:
    """One setting, in this process."""
    import numpy as np
    import torch

    from vlad.backbones import ClipBackbone, load_backbone
    from vlad.backbones.base import DENSE, Backbone
    from vlad.backbones.preprocessing import preprocess
    from vlad.scoring.coarse import coarse_to_fine

    backbone: Backbone
    if model == "random":
        import open_clip

        torch.manual_seed(0)
        backbone = ClipBackbone(
            open_clip.create_model("ViT-B-16-plus-240").to(getattr(torch, dtype)).eval(), name="random weights", device=device, dtype=dtype
        )
    else:
        backbone = load_backbone(model, device=device, dtype=dtype)
    rng = np.random.default_rng(0)
    pixels = preprocess([rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(batch)], backbone.preprocessing)
    sentences = [f"a photo of a {word} metal nut for visual inspection." for word in ("flawless", "damaged")] * 121

    def seconds(work: Any) -> float:
        synchronise = torch.cuda.synchronize if backbone.device.type == "cuda" else lambda: None
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        return time.perf_counter() - start

    gc.collect()
    loaded = memory(backbone.device.type, "VmRSS")
    forget_peak(backbone.device.type)
    backbone.encode_image(pixels[:1], scales=backbone.scales)
    vectors = torch.nn.functional.normalize(torch.randn(2, backbone.encode_text(sentences[:1]).shape[1]), dim=1).to(backbone.device)

    def coarse() -> None:
        images = backbone.encode_image(pixels).image
        for picture, image in zip(pixels.split(1), images.split(1), strict=True):
            encode = backbone.some_windows(picture)  # type: ignore[attr-defined]
            coarse_to_fine(encode, image, vectors, grid=backbone.grid, scales=backbone.scales, temperature=backbone.temperature)

    whole, full, dense, coarser = [], [], [], []
    for _ in range(repeats):
        whole.append(seconds(lambda: backbone.encode_image(pixels)))
        full.append(seconds(lambda: backbone.encode_image(pixels, scales=backbone.scales)))
        if getattr(backbone, "is_dense", False):
            dense.append(seconds(lambda: backbone.encode_image(pixels, scales=(DENSE,))))
        if hasattr(backbone, "some_windows"):
            coarser.append(seconds(coarse))
    peak = memory(backbone.device.type, "VmHWM")
    text = seconds(lambda: backbone.encode_text(sentences))
    return {
        "model": backbone.name,
        "whole": statistics.median(whole) / batch,
        "full": statistics.median(full) / batch,
        "dense": statistics.median(dense) / batch if dense else None,
        "coarse": statistics.median(coarser) / batch if coarser else None,
        "text": text,
        "loaded": loaded,
        "peak": peak,
    }


def memory(device_type: str, key: str) -> float:
    """MiB held now (VmRSS) or at the most since `forget_peak` (VmHWM); on a GPU both are what torch allocated there."""
    if device_type == "cuda":
        import torch

        return (torch.cuda.memory_allocated() if key == "VmRSS" else torch.cuda.max_memory_allocated()) / 2**20
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 2**10  # type: ignore[index]


def forget_peak(device_type: str) -> None:
    """From here on the peak is measured anew, so that loading the model does not hide it."""
    if device_type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("DTYPE", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.model, options.device, options.one[0], int(options.one[1]), options.repeats)))
        return
    rows = {}
    for dtype in ("float32", "bfloat16"):
        for batch in (1, 8):
            command = [
                sys.executable,
                __file__,
                "--model",
                options.model,
                "--device",
                options.device,
                "--repeats",
                str(options.repeats),
                "--one",
                dtype,
                str(batch),
            ]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows[dtype, batch] = json.loads(output.splitlines()[-1])
    base = rows["float32", 1]["full"]
    print(f"{rows['float32', 1]['model']} on {options.device}; seconds a picture, MiB of the process")
    names = (("batch", 6), ("whole picture", 15), ("with windows", 14), ("windows", 9), ("to float32, 1", 15), ("loaded", 9), ("peak", 8))
    print("dtype".ljust(10) + "".join(name.rjust(width) for name, width in names) + "242 sentences".rjust(15))
    for (dtype, batch), row in rows.items():
        for name in ("coarse", "dense"):
            if row[name] is not None:
                share = f"1 / {row['full'] / row[name]:.1f} of the time with windows"
                print(f"{dtype}, batch {batch}: {name} maps {row[name]:.3f} s, {share}")
        share = 1 - row["whole"] / row["full"]
        print(
            f"{dtype:<10}{batch:>6}{row['whole']:>13.3f} s{row['full']:>12.3f} s{share:>9.0%}{row['full'] / base:>14.2f}x"
            f"{row['loaded']:>9.0f}{row['peak']:>8.0f}{row['text']:>13.2f} s"
        )


if __name__ == "__main__":
    main()
