"""Time and memory of the comparison with references, as ratios to one encoder pass, and the memory of a large fit.

    python eval/bench/few_shot.py [--model lite] [--k 1,16,256] [--large 1000]

The bank is filled with as many random tokens as k references give (times and sizes do not depend on the values); `encoder` is one pass of
the model over one picture. Each ratio is of medians measured in turn in one run. With `--large`, that many references of 32 x 32 tokens
with 384 channels (DINOv2-S at 448 pixels) go through a coreset of a tenth, and the peak of the process is shown (Linux).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vlad.backbones import load_backbone
from vlad.backbones.encoder import Encoder
from vlad.scoring.coreset import BLOCK, CoresetLoss, greedy_coreset
from vlad.scoring.nearest import MemoryBank
from vlad.scoring.subspace import SubspaceBank

REPEATS = 7
ROTATED = 6.8  # of eight turned copies' patches so many pictures' worth lie wholly inside the picture


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak() -> float:
    """MiB, the most this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--k", type=lambda text: tuple(map(int, text.split(","))), default=(1, 16, 256))
    parser.add_argument("--large", type=int, default=0, metavar="K")
    options = parser.parse_args()
    encoder = Encoder(load_backbone(options.model, device="cpu", dtype="float32"))
    picture = np.random.default_rng(0).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    (view,) = encoder.see([picture], patches=True)
    assert view.patches is not None
    query = view.patches.tokens
    print(f"{options.model}, {len(query)} tokens of {query.shape[1]} channels, {torch.get_num_threads()} threads")
    print("| k | bank | rows | MiB | encoder | search | ratio |\n|---|---|---|---|---|---|---|")
    for k in options.k:
        for name, share in (("all", 1.0), ("turned 8 times", ROTATED), ("turned, coreset 0.1", ROTATED / 10), ("subspace", 1.0)):
            bank = SubspaceBank() if name == "subspace" else MemoryBank()
            for owner in range(k):
                rows = torch.randn(max(1, int(share * len(query))), query.shape[1])
                bank.add(rows, torch.full((len(rows),), owner))
            bank.distances(query)
            passes, searches = [], []
            for _ in range(REPEATS):
                passes.append(seconds(lambda: encoder.see([picture], patches=True)))
                searches.append(seconds(lambda bank=bank: bank.distances(query)))  # type: ignore[misc]
            held = sum(tensor.nbytes for tensor in bank.state().values()) / 2**20
            one, other = statistics.median(passes), statistics.median(searches)
            print(
                f"| {k} | {name} | {len(bank):,} | {held:.1f} | {one * 1e3:.0f} ms | {other * 1e3:.1f} ms | {other / one:.2f} |", flush=True
            )
    if options.large:
        large(options.large)


def large(count: int) -> None:
    """A fit of `count` references with a coreset, block by block as `vlad.references` does it."""
    bank, loss, pending = MemoryBank(), CoresetLoss(), []
    start = time.perf_counter()
    for owner in range(count):
        pending.append((torch.randn(1024, 384), torch.full((1024,), owner)))
        if sum(len(tokens) for tokens, _ in pending) >= BLOCK or owner == count - 1:
            tokens, owners = (torch.cat(parts) for parts in zip(*pending, strict=True))
            kept, lost = greedy_coreset(tokens, 0.1)
            bank.add(tokens[kept], owners[kept])
            loss, pending = loss + lost, []
    bank.distances(torch.randn(1024, 384))
    took = time.perf_counter() - start
    print(f"{count} references, coreset 0.1: {len(bank):,} of {loss.tokens:,} tokens, {took:.0f} s, peak {peak():.0f} MiB")


if __name__ == "__main__":
    main()
