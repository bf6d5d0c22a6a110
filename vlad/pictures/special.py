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
_TIFFS = (b"II*\0", b"MM\0*")
_DNG_VERSION = 50706  # tags
_SENSOR = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # a transfer syntax
_INSTALL = "is missing; pip install 'vlad-anomaly[formats]', or export the picture as PNG or TIFF"


def read_special(file: IO[bytes], head: bytes, name: str, check_size: Callable[[int, int], None]) -> np.ndarray | None:
    """uint8 (H, W, 3) of a DICOM or raw file, None if it is neither. A raw file is known by how it begins; most begin as TIFF files do, and
    are known by their tags, or by their name.

    Raises:
        ImageReadError: the library is missing, or cannot read it.
    """
    if head[128:132] == b"DICM":
        return _from_dicom(file, check_size)
    is_tiff = head.startswith(_TIFFS)
    if _is_raw(head) or (is_tiff and (name.lower().endswith(RAW_SUFFIXES) or _has_raw_tags(file))):
        return _from_raw(file, check_size)
    return None


def _is_raw(head: bytes) -> bool:
    """CR2, CR3, RAF, ORF or RW2."""
    is_canon = head[8:11] == b"CR\x02" or head[4:12] == b"ftypcrx "
    return is_canon or head.startswith((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"))


def _has_raw_tags(file: IO[bytes]) -> bool:
    """Whether a TIFF holds what a sensor saw: it is a DNG, or its first picture is a preview of another with a colour filter array."""
    from tifffile import TiffFile

    file.seek(0)
    try:
        with TiffFile(file) as tiff:
            page: Any = tiff.pages.first
            if _DNG_VERSION in page.tags or int(page.photometric) in _SENSOR:
                return True
            return bool(page.is_reduced and any(int(inner.photometric) in _SENSOR for inner in page.pages or ()))
    except Exception:  # whatever it is, whoever reads it as a picture says so
        return False
    finally:
        file.seek(0)


def _from_dicom(file: IO[bytes], check_size: Callable[[int, int], None]) -> np.ndarray:
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
    except ImportError:
        raise ImageReadError(f"is a DICOM file, for which pydicom {_INSTALL}") from None
    file.seek(0)
    content = file.read()
    if _DEFLATED in content:
        raise ImageReadError("is a deflated DICOM file, whose size is known only when it is unpacked; save it as Explicit VR Little Endian")
    data: Any = pydicom.dcmread(io.BytesIO(content))
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
