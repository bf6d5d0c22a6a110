"""Every row of speed in one run: eval/results/speed.md and speed.json.

    uv venv PEER && uv pip install --python PEER/bin/python anomalib==2.7.0 open_clip_torch==2.24.0   # the other side, once
    python eval/bench/all.py [--peer PEER] [--out eval/results/speed] [--repeats 5] [--pictures 100] [--fit 48] [--only ROW,...]

Whatever is compared takes turns in this one run, so that a busy machine slows both sides alike; what is shown is the median of the ratios
with the smallest and the largest. Times in milliseconds are of this machine and of no other. Weights of CLIPs are random: time does not
depend on them, and nothing here says anything about accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import folder as folders
import references
from startup import COMMANDS

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone, load_backbone
from vlad.synthetic import ProductLine

_SIDE = 1000


@dataclass(frozen=True)
class Row:
    """One line of the table: `milliseconds` of what is named, and its ratio to what it is compared with, in each turn."""

    part: str
    name: str
    milliseconds: float
    beside: str = ""
    ratios: tuple[float, ...] = ()
    target: str = ""
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """As Markdown shows it."""
        ratio = ""
        if self.ratios:
            middle = statistics.median(self.ratios)
            ratio = f"{middle:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        return (self.name, f"{self.milliseconds:,.0f}" if self.milliseconds else "", self.beside, ratio, self.target, self.note)


def turns(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, in turn; a first round fills caches and does not count. Work that returns a float says its own seconds."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeats + 1):
        for name, act in work.items():
            start = time.perf_counter()
            told = act()
            spent = told if isinstance(told, float) else time.perf_counter() - start
            if number:
                found[name].append(spent)
    return found


def over(found: dict[str, list[float]], name: str, beside: str) -> tuple[float, ...]:
    """Ratios of the same turns."""
    return tuple(one / other for one, other in zip(found[name], found[beside], strict=True))


def picture(side: int = _SIDE) -> np.ndarray:
    return np.asarray(cv2.resize(ProductLine("gear", 3, 512).sample(100, "crack").image, (side, side)))


def machine() -> dict[str, Any]:
    """What decides times: the class of the processor, threads, and how fast it multiplies matrices."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    kinds = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        one, other = torch.randn(2048, 1024, dtype=dtype), torch.randn(1024, 4096, dtype=dtype)
        took = min(turns({"product": lambda one=one, other=other: one @ other}, 9)["product"])  # type: ignore[misc]
        rates[name] = 2 * 2048 * 1024 * 4096 / took / 1e9
    return {
        "class": next((shown for flag, shown in kinds if flag in flags), platform.machine()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "matmul_gflops": {name: round(rate) for name, rate in rates.items()},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


class Peer:
    """anomalib in its own environment, one picture at a time."""

    def __init__(self, environment: Path) -> None:
        command = [str(environment / "bin" / "python"), str(Path(__file__).with_name("peer.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self._read() != "ready":
            pass

    def __call__(self, precision: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{precision}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the peer has ended; see what it wrote above")
        return line.strip()

    def close(self) -> None:
        """End it."""
        self._process.communicate("quit\n", timeout=60)


def winclip(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """A picture of ViT-B-16-plus-240 by words, exact and by choice, beside the peer."""
    import open_clip
    from torch.utils.flop_counter import FlopCounterMode

    from vlad.backbones.preprocessing import preprocess

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-plus-240").eval()
    backbones = {dtype: ClipBackbone(model, name="random weights", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")}
    shown = picture(240)
    work: dict[str, Callable[[], Any]] = {}
    for speed, dtype in (("exact", "float32"), ("exact", "bfloat16"), ("balanced", "bfloat16"), ("fast", "bfloat16")):
        detector = AnomalyDetector(backbones[dtype], speed=speed)
        detector.text_vectors()
        work[f"{speed}, {dtype}"] = lambda detector=detector: detector.predict(shown)  # type: ignore[misc]
    peer = Peer(options.peer) if options.peer else None
    if peer is not None:
        work |= {f"anomalib 2.7, {kind}": (lambda kind=kind: peer(kind)) for kind in ("float32", "autocast")}  # type: ignore[misc]
    found = turns(work, options.repeats)
    pixels = preprocess([shown], backbones["float32"].preprocessing)
    alike = {f"{speed}, bfloat16": _alike(backbones["bfloat16"], speed) for speed in ("balanced", "fast")}
    for name in list(work)[:4]:
        dtype = name.split(", ")[1]
        note = ""
        if name.startswith("exact"):
            with FlopCounterMode(display=False) as counter:
                backbones[dtype].encode_image(pixels, scales=(2, 3))
            floor = counter.get_total_flops() / about["matmul_gflops"][dtype] / 1e9
            note = f"{floor / statistics.median(found[name]):.0%} of the floor: {counter.get_total_flops() / 2e9:.0f} GMAC executed"
        else:
            note = f"rank correlation of its maps with exact ones {alike[name]:.2f} (random weights: no evidence of accuracy)"
        target = {"balanced, bfloat16": "at most 0.25", "fast, bfloat16": "at most 0.10"}.get(name, "")
        beside = "exact, bfloat16"
        yield Row("WinCLIP", name, statistics.median(found[name]) * 1e3, beside, over(found, name, beside), target, note)
    for name, ours in (("anomalib 2.7, float32", "exact, float32"), ("anomalib 2.7, autocast", "exact, bfloat16")) if peer else ():
        yield Row("WinCLIP", name, statistics.median(found[name]) * 1e3, ours, over(found, name, ours))
    if peer is not None:
        peer.close()


def _alike(backbone: ClipBackbone, speed: str) -> float:
    """Mean Spearman correlation of the maps of four pictures with those of all windows."""
    from scipy.stats import spearmanr

    quick, exact = AnomalyDetector(backbone, speed=speed), AnomalyDetector(backbone)
    shown = [ProductLine(family, 3, 240).sample(100).image for family in ("gear", "leather", "screw", "wood")]
    pairs = [(quick.predict(one).anomaly_map[::8, ::8], exact.predict(one).anomaly_map[::8, ::8]) for one in shown]
    return statistics.mean(float(spearmanr(one.ravel(), other.ravel()).statistic) for one, other in pairs)


def beside_references(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """lite beside references, by how the nearest token is looked for."""
    backbone = load_backbone("lite", device="cpu")
    line = ProductLine("gear", 3, 512)
    pictures = [np.asarray(cv2.resize(line.sample(number).image, (_SIDE, _SIDE))) for number in range(17)]
    for k in (1, 4, 16):
        detectors = {"words alone": AnomalyDetector(backbone)} | {
            way: references.fitted_without_calibration(AnomalyDetector(backbone, search=way), pictures[:k]) for way in ("clusters", "exact")
        }
        work = {name: (lambda one=one: one.predict(pictures[-1], threshold=0.5)) for name, one in detectors.items()}  # type: ignore[misc]
        found = turns(work, options.repeats)
        for name in ("clusters", "exact"):
            target = f"at most {1.15 if k <= 4 else 1.5}" if name == "clusters" else ""
            ratios = over(found, name, "words alone")
            yield Row("References", f"{k} references, {name}", statistics.median(found[name]) * 1e3, "words alone", ratios, target)


def fits(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """A fit without turned copies, as of many references."""
    backbone = load_backbone("lite", device="cpu")
    line = ProductLine("gear", 3, 512)
    pictures = [line.sample(number).image for number in range(options.fit)]
    way: dict[str, Callable[[], Any]] = {
        search: (lambda search=search: AnomalyDetector(backbone, rotations=1, search=search).fit(pictures))  # type: ignore[misc]
        for search in ("clusters", "exact")
    }
    start = time.perf_counter()
    way["clusters"]()
    middle = time.perf_counter()
    way["exact"]()
    ratio = (time.perf_counter() - middle) / (middle - start)
    note = "grows with the number: the exact way looks at every token of every reference for each"
    yield Row("Fit", f"{options.fit} references, clusters", (middle - start) * 1e3, "exact over clusters", (ratio,), "", note)


def output(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """A folder of pictures with and without files written."""
    with tempfile.TemporaryDirectory() as place:
        paths = folders.make_pictures(Path(place), options.pictures, _SIDE)
        detector = AnomalyDetector.from_pretrained("lite", device="cpu")
        folders.run(detector, paths[:8], None, folders.FILES)
        rows: dict[str, list[dict[str, float]]] = {"without": [], "with": [], "with, JPEG overlay and float16 map": []}
        kinds = {"with": folders.FILES, "with, JPEG overlay and float16 map": ("overlay-jpeg", "mask", "map-float16", "json")}
        for number in range(max(2, options.repeats // 2)):
            for name, found in rows.items():
                out = None if name == "without" else Path(place) / f"{len(name)}_{number}"
                found.append(folders.run(detector, paths, out, kinds.get(name, folders.FILES)))
    for name, found in rows.items():
        ratios = tuple(one["seconds"] / other["seconds"] for one, other in zip(found, rows["without"], strict=True))
        busy = statistics.median(one["busy"] for one in found)
        target = {"without": "busy at least 85 %", "with": "at most 1.3; busy at least 75 %"}.get(name, "")
        grown = statistics.median(one["growth"] for one in found)
        note = f"encoder busy {busy:.0%} of the time; memory {grown:+.0f} MiB over nine tenths of the run"
        milliseconds = statistics.median(one["seconds"] for one in found) * 1e3
        yield Row("Folder", f"{name} --out, {options.pictures} pictures of 1 MP", milliseconds, "without --out", ratios, target, note)


def starts(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """Commands from a cold interpreter."""
    names = ("import torch", "import vlad", "vlad --help", "detect one, lite")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as a user's second start
    quietly: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    found = turns({name: (lambda name=name: subprocess.run(COMMANDS[name], **quietly) and None) for name in names}, options.repeats)  # type: ignore[misc]
    for name in names:
        target = "at most 1.5" if name == "detect one, lite" else ""
        yield Row("Start", name, statistics.median(found[name]) * 1e3, "import torch", over(found, name, "import torch"), target)


def large(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """What comes after the encoder on a map of 12 megapixels, and pictures of growing size."""
    from vlad.scoring.pictures import upsampled
    from vlad.scoring.regions import find_regions

    values = torch.from_numpy(np.random.default_rng(0).random((1, 28 * 28), dtype=np.float32))
    whole = upsampled(values, (28, 28), (1.0, 1.0), (3000, 4000))
    mask = whole > np.quantile(whole[::8, ::8], 0.98)

    def after() -> None:
        found = upsampled(values, (28, 28), (1.0, 1.0), (3000, 4000))
        find_regions(0.5 * found + 0.5 * whole, mask)

    took = turns({"after": after}, options.repeats)["after"]
    yield Row("Large", "12 MP map: upsampling, fusing, regions", statistics.median(took) * 1e3, target="at most 300 ms")
    detector = AnomalyDetector.from_pretrained("lite", device="cpu")
    first = 0.0
    for width, height in ((512, 512), (1024, 1024), (2048, 2048), (4096, 4096), (16000, 512)):
        shown = cv2.resize(picture(), (width, height))
        for tile in (0, 512) if width == height else (None,):
            spent = statistics.median(turns({"one": lambda shown=shown, tile=tile: detector.predict(shown, tile=tile)}, 2)["one"]) * 1e3  # type: ignore[misc]
            first = first or spent
            how = "as a whole" if tile == 0 else "tiles of 512"
            yield Row("Large", f"{width} x {height}, {how}", spent, "512 x 512, as a whole", (spent / first,))


def evaluating(options: argparse.Namespace, about: dict[str, Any]) -> Iterator[Row]:
    """The share of `vlad eval` outside the encoder."""
    command = [sys.executable, str(Path(__file__).with_name("evaluation.py")), "--pictures", str(options.pictures)]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    milliseconds, share = float(line.split(" ms")[0]), line.split(", ")[1]
    yield Row("Eval", f"{options.pictures} pictures of 1 MP", milliseconds, target="at most 15 % outside", note=share)


PARTS = {
    "winclip": winclip,
    "references": beside_references,
    "fit": fits,
    "folder": output,
    "start": starts,
    "large": large,
    "eval": evaluating,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="An environment that has anomalib.")
    parser.add_argument("--out", type=Path, default=Path("eval/results/speed"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--fit", type=int, default=48)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    about, rows = machine(), []
    for name in options.only:
        for row in PARTS[name](options, about):
            rows.append(row)
            print(" | ".join(row.cells()), flush=True)
    document = {"machine": about, "rows": [asdict(row) for row in rows]}
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(about, rows, options), encoding="utf-8")


def markdown(about: dict[str, Any], rows: list[Row], options: argparse.Namespace) -> str:
    """The report."""
    rates = ", ".join(f"{rate:,} GFLOP/s in {dtype}" for dtype, rate in about["matmul_gflops"].items())
    gpu = about["gpu"] or "none was at hand: the paths for it are tested on the CPU and their speed is unmeasured"
    lines = [
        "# Speed",
        "",
        f"Written by `python eval/bench/all.py --repeats {options.repeats} --pictures {options.pictures} --fit {options.fit}`"
        f"{' with --peer' if options.peer else ', without the peer'}. "
        "Whatever is compared took turns in one run; ratios are medians with the smallest and the largest. Milliseconds are of this "
        "machine alone. Weights of CLIPs are random, which changes no time and says nothing about accuracy; pictures are procedural, with "
        "noise.",
        "",
        f"- Processor class {about['class']}, {about['cores']} cores, {about['threads']} threads of torch {about['torch']}, "
        f"Python {about['python']}",
        f"- Products of matrices of 2,048 x 1,024 x 4,096: {rates}",
        f"- GPU: {gpu}",
    ]
    part = ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines += ["", f"## {part}", "", "| | ms | beside | ratio | target | |", "|---|---:|---|---:|---|---|"]
        lines.append(f"| {' | '.join(row.cells())} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
