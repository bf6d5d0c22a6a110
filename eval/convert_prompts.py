"""The learned prompts of AnomalyCLIP (arXiv 2310.18961) as two text vectors: a file that `--prompts FILE.safetensors` takes.

    python eval/convert_prompts.py epoch_15.pth --model ViT-L-14-336:openai --out anomalyclip.safetensors
    vlad detect parts/ --model ViT-L-14-336:openai --text-maps dense --prompts anomalyclip.safetensors

What is read of the checkpoint: `prompt_learner.ctx_pos` and `prompt_learner.ctx_neg` (1, 1, N, C), the words before "object." and "damaged
object."; and `prompt_learner.compound_prompts_text.I` (M, C), which take the place of the first M words before the text tower's block
I + 1. No checkpoint was at hand when this was written: the layout is the published code's, and the arithmetic is tested on a small tower
with random numbers. AnomalyCLIP's picture side has learned nothing beside them; its dense maps differ in detail from `--text-maps dense`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones import load_backbone
from vlad.errors import PromptError
from vlad.prompts.vectors import write_vectors

_STATES = ("object.", "damaged object.")  # what follows the learned words, normal and anomalous


def main(
    checkpoint: Path,
    out: Annotated[Path, typer.Option()],
    model: Annotated[str, typer.Option(help="The CLIP that they were learned with.")] = "ViT-L-14-336:openai",
    name: Annotated[str, typer.Option()] = "anomalyclip",
) -> None:
    """Write the file."""
    learned = read_checkpoint(checkpoint)
    backbone: Any = load_backbone(model, device="cpu", dtype="float32")
    write_vectors(out, encode(backbone.model, learned).tolist(), model=model, name=name, source=f"AnomalyCLIP, {checkpoint.name}")
    typer.echo(f"written: {out}", err=True)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The learned tensors by their short names.

    Raises:
        PromptError: they are not there.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("prompt_learner", content)
    found = {key.removeprefix("prompt_learner."): value.float() for key, value in content.items() if isinstance(value, Tensor)}
    if missing := [key for key in ("ctx_pos", "ctx_neg") if key not in found or found[key].ndim < 2]:
        raise PromptError(
            f"{path}: expected the tensors ctx_pos and ctx_neg of AnomalyCLIP, {missing[0]} is missing among {sorted(found)[:6]}"
        )
    return found


@torch.inference_mode()
def encode(model: Any, learned: dict[str, Tensor]) -> Tensor:
    """Unit text vectors (2, D), normal first, of the learned words through the text tower of an open_clip model."""
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=model.context_length)
    deep = [learned[key] for key in sorted((key for key in learned if key.startswith("compound_prompts_text.")), key=_number)]
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
