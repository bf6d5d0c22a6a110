"""Image towers seen as transformers over tokens, so that any window of patches can be embedded exactly.

A window is embedded as if the rest of the picture did not exist: its patches keep their positions, every other patch is dropped
(not zeroed), and the transformer runs on what is left (WinCLIP, arXiv 2303.14814, section 4.1). Everything in open_clip >= 3 is
batch-first (N, L, C); nothing here ever permutes around its transformer.

Axes: N pictures, L tokens, P patches, W windows, C transformer width, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones.grid import window_indices
from vlad.errors import BackboneError

_DENSE_LAYERS = 3  # blocks whose dense embeddings are averaged


class Tower:
    """A frozen image tower that can embed any subset of its patches.

    Attributes:
        grid: (rows, cols) of patches.
        prefix: number of tokens before the patches (CLS, registers); every window keeps them.
    """

    grid: tuple[int, int]
    prefix: int

    @property
    def is_dense(self) -> bool:
        """Whether `encode_dense` can be asked."""
        return False

    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) to the tokens (N, L, C) that enter the first block, positions added."""
        raise NotImplementedError

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens (N, L, C) to the picture embedding (N, D) and the final patch tokens (N, P, C)."""
        raise NotImplementedError

    def encode_windows(self, tokens: Tensor, scales: Sequence[int]) -> dict[int, Tensor]:
        """All windows of every scale of the pictures in `tokens` (N, L, C): (N, W, D) for each scale."""
        if not scales:
            return {}
        encode = self._subset_encoder(tokens)
        return {scale: encode(self._subset(scale, tokens.device)) for scale in scales}

    def some_windows(self, tokens: Tensor) -> Callable[[int, Tensor], Tensor]:
        """A function from a scale and the numbers (W,) of windows in row-major order to their embeddings (N, W, D)."""
        encode = self._subset_encoder(tokens)
        return lambda scale, which: encode(self._subset(scale, tokens.device)[which])

    def encode_dense(
        self, tokens: Tensor, attention: str = "v", layers: int = 0, *, patches: bool = True
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """`encode`, and an embedding of each patch (N, P, D) in the joint space, unit vectors, from the same pass; with `layers` those of
        each of so many last blocks (N, L, P, D). Without `patches` None stands for the final patch tokens, which saves time.

        Raises:
            BackboneError: this tower has none.
        """
        raise BackboneError(f"{type(self).__name__} gives no dense maps; use windows, or a CLIP whose image tower is open_clip's own ViT")

    def _subset(self, scale: int, device: torch.device) -> Tensor:
        """Token indices (W, prefix + scale**2) of every window: the prefix and the window's patches."""
        windows = window_indices(self.grid, scale) + self.prefix
        prefix = torch.arange(self.prefix).expand(len(windows), -1)
        return torch.cat([prefix, windows], dim=1).to(device)

    def _subset_encoder(self, tokens: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from token indices (W, l) to embeddings (N, W, D); what all windows share is computed here, once."""

        def encode(subset: Tensor) -> Tensor:
            gathered = tokens[:, subset]
            embeddings, _ = self.encode(gathered.flatten(0, 1))
            return embeddings.unflatten(0, gathered.shape[:2])

        return encode


class OpenClipTower(Tower):
    """open_clip's own VisionTransformer (ViT-B-16-plus-240 and most other CLIPs).

    Where the blocks are the standard ones and the embedding is read from CLS, two exact savings apply to windows: the first block's
    LayerNorm and QKV are per token, so they are computed once for all tokens and gathered; of the last block only CLS is read, so
    query, output projection and MLP run on CLS alone.
    """

    prefix = 1

    def __init__(self, visual: Any) -> None:
        from open_clip.transformer import ResidualAttentionBlock

        self.visual = visual
        self.grid = tuple(visual.grid_size)
        self.blocks = list(self.visual.transformer.resblocks)
        self._reads_cls = self.visual.attn_pool is None and self.visual.pool_type == "tok"
        self._standard = self._reads_cls and all(
            type(block) is ResidualAttentionBlock and block.attn.in_proj_bias is not None for block in self.blocks
        )

    def embed(self, pixels: Tensor) -> Tensor:
        return self.visual._embeds(pixels)  # ln_pre is per token: applying it before the gather is exact

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.visual.transformer(tokens)
        pooled, patches = self.visual._pool(tokens)
        return self._project(pooled), patches

    @property
    def is_dense(self) -> bool:
        """Whether `encode_dense` can be asked."""
        return self.dense_layers > 0

    @property
    def dense_layers(self) -> int:
        """Blocks that have dense embeddings: the last half."""
        return len(self.blocks) - len(self.blocks) // 2 if self._standard and len(self.blocks) > 1 else 0

    def encode_dense(
        self, tokens: Tensor, attention: str = "v", layers: int = 0, *, patches: bool = True
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Dense patch embeddings by a second path beside the last half of the blocks (CLIP Surgery, arXiv 2304.05653; CLIP-AD's SDP,
        2311.00453; AnoCLIP, 2308.15939). The query-key attention of a CLIP's last blocks mixes what is far apart, which is why its patch
        tokens do not speak the language of its text; what it gathers for each place is right where places are compared by their values.

        With x the tokens of the ordinary path before a block, and d those of the dense path, which begins as x:
        d <- d + out(softmax(a a^T / sqrt(c)) v), with q, k, v = qkv(LN(x)) and a = v; the feed-forward network is left out. The embedding
        is the mean, over the last `_DENSE_LAYERS` blocks, of the unit vectors of LN(d) P.

        Args:
            attention: "v": values with values; "qkv": the mean of what queries with queries, keys with keys and values with values gather.
        """
        if not self.is_dense:
            return super().encode_dense(tokens, attention, layers, patches=patches)
        half = len(self.blocks) // 2
        wanted = layers or _DENSE_LAYERS
        if layers > self.dense_layers:
            raise BackboneError(f"the last {self.dense_layers} blocks have dense embeddings, asked for were {layers}")
        x = tokens
        for block in self.blocks[:half]:
            x = block(x)
        dense, seen = x, []
        for number, block in enumerate(self.blocks[half:], start=half):
            parts = dict(zip("qkv", _qkv(block, block.ln_1(x)).chunk(3, dim=-1), strict=True))  # of both paths
            gathered = [_attention(block, parts[kind], parts[kind], parts["v"]) for kind in attention]
            dense = dense + block.ls_1(torch.stack(gathered).mean(0))
            if patches or number < len(self.blocks) - 1:
                x = _after_attention(block, x, _attention(block, parts["q"], parts["k"], parts["v"]))
            if number >= len(self.blocks) - wanted:
                seen.append(F.normalize(self._project(self.visual.ln_post(dense[:, self.prefix :])).float(), dim=-1))
        dense = torch.stack(seen, dim=1) if layers else F.normalize(torch.stack(seen).mean(0), dim=-1)
        if not patches:
            return self._project(self.visual.ln_post(self._last_block(self.blocks[-1], x))), None, dense
        pooled, last = self.visual._pool(x)
        return self._project(pooled), last, dense

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def _subset_encoder(self, tokens: Tensor) -> Callable[[Tensor], Tensor]:
        if not self._standard or len(self.blocks) < 2:
            return super()._subset_encoder(tokens)
        first, *middle, last = self.blocks
        shared_qkv = _qkv(first, first.ln_1(tokens))

        def encode(subset: Tensor) -> Tensor:
            x = tokens[:, subset].flatten(0, 1)
            q, k, v = shared_qkv[:, subset].flatten(0, 1).chunk(3, dim=-1)
            x = _after_attention(first, x, _attention(first, q, k, v))
            for block in middle:
                q, k, v = _qkv(block, block.ln_1(x)).chunk(3, dim=-1)
                x = _after_attention(block, x, _attention(block, q, k, v))
            cls = self._last_block(last, x)
            embeddings = self._project(self.visual.ln_post(cls))
            return embeddings.unflatten(0, (len(tokens), len(subset)))

        return encode

    @staticmethod
    def _last_block(block: Any, x: Tensor) -> Tensor:
        """CLS (M, C) after the last block: keys and values of all tokens, everything else of CLS alone."""
        normed = block.ln_1(x)
        width = x.shape[-1]
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        q = F.linear(normed[:, :1], weight[:width], bias[:width])
        k, v = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        return _after_attention(block, x[:, :1], _attention(block, q, k, v))[:, 0]


def _qkv(block: Any, normed: Tensor) -> Tensor:
    return F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias)


def _attention(block: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Multi-head attention inside each sequence of the batch: (M, l, C) queries against (M, L, C) keys and values."""
    heads = block.attn.num_heads
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return block.attn.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _after_attention(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class TimmViTTower(Tower):
    """A timm VisionTransformer inside open_clip (SigLIP, SigLIP 2 and others): pooled by its own head, CLS or not."""

    def __init__(self, visual: Any) -> None:
        self.trunk, self.head = visual.trunk, visual.head
        self.grid = tuple(self.trunk.patch_embed.grid_size)
        self.prefix = self.trunk.num_prefix_tokens

    def embed(self, pixels: Tensor) -> Tensor:
        return self.trunk.norm_pre(self.trunk._pos_embed(self.trunk.patch_embed(pixels)))

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.trunk.norm(self.trunk.blocks(tokens))
        return self.head(self.trunk.forward_head(tokens)), tokens[:, self.prefix :]


def build_tower(visual: Any) -> Tower:
    """The tower of an open_clip model.

    Raises:
        BackboneError: the architecture has no patch tokens that could be dropped, or mixes positions into its attention.
    """
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return OpenClipTower(visual)
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        raise BackboneError(
            f"the image tower {type(visual).__name__} is a convolutional network without patch tokens, so windows cannot be cut out of it; "
            "use a ViT model, e.g. 'ViT-B-16-plus-240' or 'ViT-B-16-SigLIP'"
        )
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    if type(trunk) is not TimmVisionTransformer:
        reason = (
            "rotary positions are tied to the full grid" if type(trunk).__name__ == "Eva" else "it is not a plain ViT over patch tokens"
        )
        raise BackboneError(
            f"the image tower {type(trunk).__name__} allows no windows: {reason}; "
            "use a ViT model, e.g. 'ViT-B-16-plus-240' or 'ViT-B-16-SigLIP'"
        )
    return TimmViTTower(visual)
