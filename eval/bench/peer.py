"""The other side of `all.py`: anomalib's WinCLIP, run by the Python of its own environment.

Each line on stdin, "float32" or "autocast", is answered by the seconds of one picture; "quit" ends it. The weights are random: time does
not depend on them.
"""

from __future__ import annotations

import sys
import time

import torch
from anomalib.models.image.winclip import torch_model


def main() -> None:
    torch_model.PRETRAINED = None  # the same architecture, and nothing to download
    model = torch_model.WinClipModel(class_name="object").eval()
    pixels = torch.randn(1, 3, 240, 240)

    def once(precision: str) -> float:
        start = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            model(pixels)
        return time.perf_counter() - start

    once("float32")
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        print(once(line.strip()), flush=True)


if __name__ == "__main__":
    main()
