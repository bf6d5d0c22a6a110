"""How long hostile inputs are made up, and from which seed: a short run by default; VLAD_FUZZ=50 makes it fifty times as long, and
VLAD_FUZZ_SEED=N another one. What fails is printed with the seed that makes it again."""

from __future__ import annotations

import os

ROUNDS = max(1, int(os.environ.get("VLAD_FUZZ", "1")))
SEED = int(os.environ.get("VLAD_FUZZ_SEED", "0"))


def seeds(count: int) -> range:
    """Seeds of `count` cases of a short run, or of a long one."""
    return range(SEED * 1_000_000, SEED * 1_000_000 + count * ROUNDS)
