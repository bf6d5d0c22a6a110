"""A detector as an ONNX or OpenVINO model and `detector.json`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vlad.deploy.spec import FILE, MODEL_FILES, Spec
from vlad.disk import cannot_write, make_folder, sha256_of
from vlad.errors import ConfigError, VladError

OPSET = 18  # 23 has an operator for attention that few runtimes know
INSTALL = "pip install 'vlad-anomaly[export]'"


def export(
    detector: Any,
    folder: str | Path,
    *,
    kind: str = "onnx",
    precision: str = "float32",
    class_name: str | None = None,
    made_for: tuple[int, int] | None = None,
) -> Path:
    """Write the detector into `folder`, made if missing: the graph with everything that it scores by inside, and detector.json. The search
    in the references is exact there, whatever the detector's.

    Args:
        detector: an `AnomalyDetector`, fitted or with words alone.
        folder: an export that is there is replaced.
        kind: "onnx" or "openvino".
        precision: "float32", or "float16" (of the weights, for OpenVINO).
        class_name: noun; None takes the detector's.
        made_for: (height, width) of the pictures, for a model that keeps their aspect; None takes that of the references.

    Raises:
        ConfigError: a setting cannot be exported, or an option is unknown.
        VladError: the packages that write the format are missing.
        OutputError: something could not be written.
    """
    import torch

    from vlad.deploy.graph import ScoringGraph, baked_positions, input_size

    if kind not in MODEL_FILES:
        raise ConfigError(f"format must be {' or '.join(map(repr, MODEL_FILES))}, got {kind!r}")
    if precision not in ("float32", "float16"):
        raise ConfigError(f"precision must be 'float32' or 'float16', got {precision!r}")
    if precision == "float16" and kind != "openvino":
        raise ConfigError("precision 'float16' is written for OpenVINO alone; take it as the format (--format openvino), or 'float32'")
    _check_settings(detector)
    _check_installed(kind)
    scorer = detector._scorer(memory=detector.memory, class_name=class_name)
    sizes = [reference.size for reference in detector.references]
    shown = made_for or (max(set(sizes), key=sizes.count) if sizes else (512, 512))
    resize, size = input_size(scorer, _cut(detector, shown))
    if any(one.dtype != torch.float32 for one in (scorer.encoder.joint, scorer.encoder.patch_backbone) if one is not None):
        raise ConfigError("expected a detector in float32; load it with dtype='float32' (--dtype float32)")
    graph = ScoringGraph(scorer, size).eval()
    pixels = torch.zeros(1, 3, *size)
    with torch.inference_mode(), baked_positions(graph):
        outputs = tuple(sorted(graph(pixels)))
    folder = Path(folder)
    make_folder(folder, "an exported detector is written to")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as place:  # an export that fails leaves the one before
            new = Path(place)
            with baked_positions(graph), _quiet():
                _write(graph, pixels, outputs, new, kind, precision)
            files = sorted(new.iterdir())
            _spec(detector, scorer, kind, precision, class_name, resize, size, shown, outputs, files).write(new)
            for old in folder.glob("model.*"):
                old.unlink()
            for path in (*files, new / FILE):
                path.replace(folder / path.name)
    except OSError as error:
        raise cannot_write(f"the export in {folder}", error) from error
    return folder


def _check_settings(detector: Any) -> None:
    config = detector.config
    if detector.memory is None and detector.encoder.joint is None:
        raise ConfigError(f"{detector.model_name} knows no words and has no references; fit() normal pictures first")
    if config.tile:
        raise ConfigError("tiles are not exported; export without tile, and cut pictures before they are scored")
    if detector.memory is not None and detector.memory.foreground is not None:
        raise ConfigError("foreground is not exported; fit without it, or give a roi")
    look = config.look
    if look is not None and not look.is_box:
        raise ConfigError("a region of interest is exported where it is one box; masks and ignored places are not")


def _cut(detector: Any, shown: tuple[int, int]) -> tuple[int, int]:
    look = detector.config.look
    if look is None:
        return shown
    picture, _ = look.cut(np.zeros((*shown, 3), np.uint8))
    return picture.shape[0], picture.shape[1]


def _check_installed(kind: str) -> None:
    from importlib.util import find_spec

    needed = ("onnx", "onnxscript", *(("openvino",) if kind == "openvino" else ()))
    if missing := [name for name in needed if find_spec(name) is None]:
        raise VladError(f"an export needs {', '.join(missing)}; {INSTALL}")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own remarks are of no use to whoever exports a detector."""
    logger = logging.getLogger("onnxscript")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)


def _write(graph: Any, pixels: Any, outputs: tuple[str, ...], folder: Path, kind: str, precision: str) -> None:
    import torch

    class Ordered(torch.nn.Module):
        """The outputs as a tuple, in the order of their names."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = graph  # "graph" is a name that torch.export has taken

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.inner(pixels)
            return tuple(found[name] for name in outputs)

    path = folder / MODEL_FILES["onnx"]
    with torch.no_grad():
        program = torch.onnx.export(
            Ordered().eval(), (pixels,), dynamo=True, opset_version=OPSET, input_names=["pixels"], output_names=list(outputs), verbose=False
        )
    assert program is not None
    program.save(str(path), external_data=False)
    if kind == "openvino":
        import openvino

        model = openvino.Core().read_model(str(path))  # convert_model takes a comma in a path for two of them
        openvino.save_model(model, str(folder / MODEL_FILES["openvino"]), compress_to_fp16=precision == "float16")
        path.unlink()


def _spec(
    detector: Any,
    scorer: Any,
    kind: str,
    precision: str,
    class_name: str | None,
    resize: tuple[int, int],
    size: tuple[int, int],
    shown: tuple[int, int],
    outputs: tuple[str, ...],
    files: list[Path],
) -> Spec:
    import torch

    from vlad import __version__
    from vlad.references.unlabelled import why_undecided

    bounds, calibration = detector._bounds(scorer, detector.config)
    patches: Any = scorer.encoder.patch_backbone if scorer.memory is not None else None
    preprocessing = (patches or scorer.encoder.joint).preprocessing
    keeps = patches is not None and not patches.square
    text = scorer.text
    return Spec(
        kind=kind,
        precision=precision,
        model=detector.model_name,
        prompts=detector.prompts.name,
        class_name=detector.prompts.noun(class_name or detector.config.class_name),
        resize=resize,
        input=size,
        made_for=shown if keeps else None,
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
        threshold=bounds.image,
        threshold_source=bounds.source,
        mask_threshold=bounds.pixel,
        undecided=why_undecided(1) if bounds.image is None else "",
        min_area=detector.config.min_area,
        roi=detector.config.roi,
        ignore=detector.config.ignore,
        white_level=scorer.white_level,
        light=scorer.light,
        text_weight=1.0 if scorer.memory is None else scorer.text_weight,
        rarity=0.0 if text is None or scorer.memory is not None else text.rarity,
        rarity_centre=0.0 if text is None else text.rarity_centre,
        scores=() if calibration is None else calibration.image_scores,
        outputs=outputs,
        sha256={path.name: sha256_of(path) for path in files},
        versions={"vlad": __version__, "torch": torch.__version__.split("+")[0], "opset": str(OPSET)},
    )
