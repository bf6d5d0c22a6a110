"""Where a model runs and in which precision."""

from __future__ import annotations

import torch

from vlad.errors import ConfigError

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is cuda, else mps, else cpu; a GPU comes with its index, as tensors name it.

    Raises:
        ConfigError: the device is unknown, or not present on this machine.
    """
    if device == "auto":
        has_mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device!r} was asked for, but {torch.cuda.device_count()} CUDA devices are visible; use device='auto' or 'cpu'"
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but this machine has none; use device='auto' or 'cpu'")
    if resolved.type != "cpu" and ":" not in str(resolved):  # tensors say cuda:0, and "cuda" is not equal to that
        return torch.device(resolved.type, torch.cuda.current_device() if resolved.type == "cuda" else 0)
    return resolved


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        ConfigError: the dtype is unknown, or float16 on a CPU (slow and inexact there).
    """
    if dtype == "auto":
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    resolved = _DTYPES.get(str(dtype).removeprefix("torch."))
    if resolved is None:
        raise ConfigError(f"dtype {dtype!r} is unknown; use one of auto, float32, bfloat16, float16")
    if resolved is torch.float16 and device.type == "cpu":
        raise ConfigError("float16 on a CPU is slow and inexact; use dtype='auto', 'bfloat16' or 'float32'")
    return resolved


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(probe() for probe in probes if probe is not None)
    return False
