"""`vlad doctor`: what this machine has, and which models can run on it now."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PACKAGES = ("torch", "open_clip_torch", "timm", "numpy", "pillow", "huggingface_hub", "transformers", "accelerate", "openai", "gradio")


def doctor() -> None:
    """Show versions, device, the model cache and which models can run here; changes nothing.

    Exit codes: 0 everything needed is there; 2 something is missing, and the line says what to do.
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from rich.console import Console
    from rich.table import Table

    from vlad import __version__

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160
    console.print(f"vlad {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in PACKAGES:
        try:
            console.print(f"  {package} {version(package)}")
        except PackageNotFoundError:
            console.print(f"  {package}: not installed (optional: pip install 'vlad-anomaly[all]')")

    import torch

    from vlad.backbones.device import resolve_device, resolve_dtype
    from vlad.backbones.hub import cache_folder, why_unreachable

    device = resolve_device()
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    console.print(f"device auto: {device}, dtype auto: {dtype}, threads: {torch.get_num_threads()}")
    unreachable = why_unreachable()
    console.print(f"model cache: {cache_folder()}")
    console.print(f"model hub: {'reachable' if unreachable is None else f'not reachable ({unreachable})'}")

    table = Table("model", "what it is", "licence", "weights", box=None, header_style="bold", pad_edge=False)
    problem = _add_models(table, can_fetch=unreachable is None)
    console.print(table)
    _show_vlms(console, can_fetch=unreachable is None)
    if problem:
        console.print(f"problem: {problem}")
        raise typer.Exit(2)
    console.print("`vlad detect --model NAME` takes any of these, and any open_clip model as ARCHITECTURE:TAG.")


def _show_vlms(console: Console, *, can_fetch: bool) -> None:
    """One row for each way to answer questions."""
    from rich.table import Table

    from vlad.backbones.hub import cached_file
    from vlad.vlm.backends.local import LICENCES, PRESETS

    table = Table("for vlad ask", "what it is", "licence", "state", box=None, header_style="bold", pad_edge=False)
    table.add_row("none", "the describer, by the detector's own words", "Apache-2.0", "always there")
    for name, source in PRESETS.items():
        cached = cached_file(source, ["config.json"]) is not None
        state = "in the cache" if cached else "will be fetched at the first use" if can_fetch else "not here, and the hub cannot be reached"
        table.add_row(name, source, LICENCES.get(name, "Apache-2.0"), state)
    key = "VLAD_VLM_API_KEY is set" if os.environ.get("VLAD_VLM_API_KEY") else "VLAD_VLM_API_KEY is not set"
    table.add_row("http://...", "any OpenAI-compatible server", "the model's", key)
    console.print(table)


def _add_models(table: Table, *, can_fetch: bool) -> str | None:
    """One row for each preset; returns what is wrong with the embedded model, which must always work."""
    from vlad.backbones.presets import PRESETS
    from vlad.backbones.registry import AUTO, AUTO_BESIDE, preset_cached
    from vlad.errors import VladError

    problem = None
    table.add_row("auto", f"{AUTO}, and beside it {AUTO_BESIDE} as soon as there are references; without {AUTO} lite", "", "the default")
    for name, preset in PRESETS.items():
        if preset.source == "lite":
            try:
                from vlad.backbones.lite.backbone import LiteBackbone

                LiteBackbone(device="cpu")
                state = "embedded, loads"
            except VladError as error:
                state, problem = "broken", str(error)
        elif preset_cached(name):
            state = "in the cache"
        else:
            state = "will be fetched at the first use" if can_fetch else "not here, and the hub cannot be reached"
        table.add_row(name, preset.description, preset.licence, state)
    return problem
