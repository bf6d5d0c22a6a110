"""The learned prompts of AnomalyCLIP (arXiv 2310.18961) as two text vectors: a file that `--prompts FILE.safetensors` takes.

    python eval/convert_prompts.py epoch_15.pth --model ViT-L-14-336:openai --out anomalyclip.safetensors
    vlad detect parts/ --model ViT-L-14-336:openai --text-maps dense --prompts anomalyclip.safetensors

What is read of the checkpoint: `prompt_learner.ctx_pos` and `prompt_learner.ctx_neg` (1, 1, N, C), the words before "object." and "damaged
object."; and `prompt_learner.compound_prompts_text.I` (M, C), which take the place of the first M words before the text tower's block
I + 1. No checkpoint was at hand when this was written: the layout is the published code's, and the arithmetic is tested on a small tower
with random numbers. AnomalyCLIP's picture side has learned nothing beside them; its dense maps differ in detail from `--text-maps dense`.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones import ClipBackbone, load_backbone
from vlad.errors import PromptError, VladError
from vlad.prompts.vectors import write_vectors

_STATES = ("object.", "damaged object.")  # what follows the learned words, normal and anomalous


def main(
    checkpoint: Path,
    out: Annotated[Path, typer.Option()],
    model: Annotated[str, typer.Option(help="The CLIP that they were learned with.")] = "ViT-L-14-336:openai",
    name: Annotated[str, typer.Option()] = "anomalyclip",
) -> None:
    """Write the file. Exit codes: 0 done; 2 something is not as it should be."""
    try:
        if out.suffix != ".safetensors" or not out.parent.is_dir():
            raise PromptError(f"--out must be a .safetensors file in a folder that is there, got {out}")
        learned = read_checkpoint(checkpoint)
        backbone: Any = load_backbone(model, device="cpu", dtype="float32")
        if not isinstance(backbone, ClipBackbone) or not hasattr(backbone.model, "token_embedding"):
            raise PromptError(f"--model must be a CLIP whose text tower is open_clip's own, got {backbone.name}")
        vectors = encode(backbone.model, learned)
        if not bool(vectors.isfinite().all()):
            raise PromptError(f"{checkpoint}: the vectors are not finite numbers; take another checkpoint")
        write_vectors(out, vectors.tolist(), model=model, name=name, source=f"AnomalyCLIP, {checkpoint.name}")
    except VladError as error:
        typer.echo(f"convert_prompts: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"written: {out}", err=True)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The learned tensors by their short names.

    Raises:
        PromptError: they are not there.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("prompt_learner", content)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise PromptError(f"{path}: no checkpoint that could be read ({type(error).__name__}: {error})") from error
    found = {key.removeprefix("prompt_learner."): value.float() for key, value in content.items() if isinstance(value, Tensor)}
    if missing := [key for key in ("ctx_pos", "ctx_neg") if key not in found or found[key].ndim < 2]:
        raise PromptError(
            f"{path}: expected the tensors ctx_pos and ctx_neg of AnomalyCLIP, {missing[0]} is missing among {sorted(found)[:6]}"
        )
    for key in ("ctx_pos", "ctx_neg"):
        if found[key].numel() != found[key].shape[-2] * found[key].shape[-1]:
            raise PromptError(f"{path}: expected one prompt of each side, (1, 1, N, C), got {key} {tuple(found[key].shape)}")
    return found


@torch.inference_mode()
def encode(model: Any, learned: dict[str, Tensor]) -> Tensor:
    """Unit text vectors (2, D), normal first, of the learned words through the text tower of an open_clip model.

    Raises:
        PromptError: they do not fit that tower.
    """
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=model.context_length)
    deep = [learned[key] for key in sorted((key for key in learned if key.startswith("compound_prompts_text.")), key=_number)]
    width, most = model.token_embedding.embedding_dim, model.context_length - 1
    for key, value in learned.items():
        if key.startswith(("ctx_", "compound_prompts_text.")) and (value.shape[-1] != width or value.shape[-2] > most - 4):
            raise PromptError(f"{key} {tuple(value.shape)} does not fit a text tower of width {width} and {most + 1} places; see --model")
    if len(deep) >= (blocks := len(model.transformer.resblocks)):
        raise PromptError(f"{len(deep)} compound prompts are too many for a text tower of {blocks} blocks; see --model")
    vectors = []
    for words, state in zip((learned["ctx_pos"], learned["ctx_neg"]), _STATES, strict=True):
        context = words.reshape(-1, words.shape[-1])
        ids = tokenizer([" ".join(["X"] * len(context) + [state])])[0]
        x = model.token_embedding(ids)
        x = torch.cat([x[:1], context, x[1 + len(context) :]]) + model.positional_embedding
        for number, block in enumerate(model.transformer.resblocks):
            if 1 <= number <= len(deep):
                instead = deep[number - 1]
                x = torch.cat([x[:1], instead, x[1 + len(instead) :]])
            x = block(x[None], attn_mask=model.attn_mask)[0]
        end = model.ln_final(x)[ids.argmax()]
        vectors.append(F.normalize(end @ model.text_projection, dim=0))
    return torch.stack(vectors)


def _number(key: str) -> int:
    return int(key.rpartition(".")[2])


if __name__ == "__main__":
    typer.run(main)
