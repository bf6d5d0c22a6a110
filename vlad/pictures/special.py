"""Pictures of medicine and of cameras' sensors, through libraries of their own: pip install 'vlad-anomaly[formats]'.

| file                             | becomes                                                                                       |
|----------------------------------|-----------------------------------------------------------------------------------------------|
| DICOM                            | the first frame; grey through its own window, or from the least to the greatest value that its |
|                                  | bits can hold; white and black as its photometric interpretation says                         |
| raw Bayer (DNG, CR2, NEF, ARW..) | demosaiced with the camera's white balance, linear in brightness but for the usual gamma      |
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from vlad.errors import ImageReadError

DICOM_SUFFIXES = (".dcm", ".dicom")
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef")
_INSTALL = "is missing; pip install 'vlad-anomaly[formats]', or export the picture as PNG or TIFF"


def read_special(file: IO[bytes], head: bytes, name: str, check_size: Callable[[int, int], None]) -> np.ndarray | None:
    """uint8 (H, W, 3) of a DICOM or raw file, None if it is neither; `name` tells raw files, which begin as TIFF files do, apart.

    Raises:
        ImageReadError: the library is missing, or cannot read it.
    """
    if head[128:132] == b"DICM":
        return _from_dicom(file, check_size)
    if name.lower().endswith(RAW_SUFFIXES):
        return _from_raw(file, check_size)
    return None


def _from_dicom(file: IO[bytes], check_size: Callable[[int, int], None]) -> np.ndarray:
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
    except ImportError:
        raise ImageReadError(f"is a DICOM file, for which pydicom {_INSTALL}") from None
    file.seek(0)
    data: Any = pydicom.dcmread(io.BytesIO(file.read()))
    check_size(int(data.Columns), int(data.Rows))
    if int(data.get("NumberOfFrames") or 1) > 1:
        from pydicom.pixels import pixel_array

        stored = pixel_array(data, index=0)
    else:
        stored = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)[..., :3]
        return np.asarray(stored if stored.dtype == np.uint8 else stored >> 8, dtype=np.uint8)
    if stored.ndim == 3:  # pydicom gives RGB, whatever it was
        return np.asarray(stored if stored.dtype == np.uint8 else stored >> (int(data.BitsStored) - 8), dtype=np.uint8)
    values = np.asarray(apply_modality_lut(stored, data), dtype=np.float64)
    if "VOILUTSequence" in data:
        values = np.asarray(apply_voi_lut(values, data), dtype=np.float64)
        low, high = 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:  # the first of several; PS3.3 C.11.2.1.2
        centre, width = (float(np.atleast_1d(data[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    else:
        bits, signed = int(data.BitsStored), int(data.PixelRepresentation)
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
        low, high = sorted(float(end) for end in np.asarray(apply_modality_lut(ends, data), dtype=np.float64))
    grey = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    grey = 1 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)


def _from_raw(file: IO[bytes], check_size: Callable[[int, int], None]) -> np.ndarray:
    try:
        import rawpy
    except ImportError:
        raise ImageReadError(f"is a raw file of a camera, for which rawpy {_INSTALL}") from None
    file.seek(0)
    with rawpy.imread(io.BytesIO(file.read())) as raw:
        check_size(raw.sizes.width, raw.sizes.height)
        return np.array(raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8))
