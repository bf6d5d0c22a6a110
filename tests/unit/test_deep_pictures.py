"""Pictures of more than 8 bits: every bit is read, and white is where the camera has it."""

from __future__ import annotations

import builtins
import io
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from dicom_files import dicom
from PIL import Image

from vlad import AnomalyDetector, find_images, read_image
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.pictures.reading import find_white_level

rng = np.random.default_rng(0)
RGB = rng.integers(0, 4096, (40, 56, 3)).astype(np.uint16)  # 12 bits in 16
RGB[0, 0] = 4095
ALPHA = np.full((40, 56, 1), 65535, np.uint16)
RGBA = np.concatenate([RGB, ALPHA], axis=2)
DNG = [
    (33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True), (50706, "B", 4, (1, 4, 0, 0), True),
    (50707, "B", 4, (1, 1, 0, 0), True), (50708, "s", 0, "Test", True), (50717, "I", 1, 4095, True),
    (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True), (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
    (50778, "H", 1, 21, True),
]  # fmt: skip
TIFFS = {
    "strips": (RGB, {"photometric": "rgb"}),
    "tiled": (RGB, {"photometric": "rgb", "tile": (32, 32)}),
    "BigTIFF": (RGB, {"photometric": "rgb", "bigtiff": True}),
    "big-endian": (RGB, {"photometric": "rgb", "byteorder": ">"}),
    "planar": (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "planar, tiled": (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)}),
    "planar, deflate": (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate", "compression": "deflate"}),
    "deflate, predictor": (RGB, {"photometric": "rgb", "compression": "deflate", "predictor": True}),
    "LZW": (RGB, {"photometric": "rgb", "compression": "lzw"}),
    "alpha": (RGBA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "multiplied alpha": (RGBA, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "another channel": (np.concatenate([RGB, ALPHA // 3], axis=2), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
}


def expected(white: int) -> np.ndarray:
    return np.floor(np.minimum(RGB, white).astype(np.float64) * 255 / white + 0.5).astype(np.uint8)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else slice(None)
    return cv2.imencode(".png", pixels[..., order] if pixels.ndim == 3 else pixels)[1].tobytes()


FILES = {name: tiff(pixels, **options) for name, (pixels, options) in TIFFS.items() if name != "LZW"}
SEVEN = tiff(np.zeros((40, 56, 7), np.uint16), photometric="minisblack", planarconfig="contig")
FILES |= {"PNG": png(RGB), "PNG, alpha": png(RGBA)}


@pytest.mark.parametrize("name", [*FILES, "LZW"])
@pytest.mark.parametrize("white", [None, 4095, 1000])
def test_every_bit_is_read(name, white):
    if name == "LZW":
        pytest.importorskip("imagecodecs", reason="tifffile writes LZW with it alone")
    data = FILES[name] if name in FILES else tiff(RGB, **TIFFS["LZW"][1])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = read_image(data, white_level=white)
    assert np.abs(found.astype(int) - expected(white or 65535)).max() == 0
    words = " ".join(str(note.message) for note in seen)
    assert {None: "its 16-bit maximum is 4095; if 4095 is white there, set white_level=4095", 1000: "brighter than white"}.get(
        white, ""
    ) in words
    assert bool(seen) == (white != 4095)
    assert len(np.unique(read_image(data, white_level=4095))) > 250, "not sixteen levels"


def test_arrays_are_read_alike():
    assert (read_image(RGB, white_level=4095) == expected(4095)).all()
    assert (read_image(RGBA, white_level=4095) == expected(4095)).all(), "alpha has no white level"
    grey = read_image(RGB[..., 0], white_level=4095)
    assert (grey == expected(4095)[..., :1]).all()
    assert (read_image(png(RGB[..., 0]), white_level=4095) == grey).all()


def test_a_file_that_states_its_white_keeps_it():
    data = b"P5 56 40 4095\n" + RGB[..., 0].astype(">u2").tobytes()
    assert (read_image(data, white_level=1000) == read_image(data)).all() and read_image(data).max() == 255
    colours = b"P6 56 40 4095\n" + RGB.astype(">u2").tobytes()
    assert np.abs(read_image(colours).astype(int) - expected(4095)).max() <= 1


def test_transparent_parts_are_white():
    pixels = RGBA.copy()
    pixels[:20, :, 3] = 0
    for data in (png(pixels), tiff(pixels, photometric="rgb", extrasamples=["unassalpha"])):
        found = read_image(data, white_level=4095)
        assert (found[:20] == 255).all() and (found[20:] == expected(4095)[20:]).all()
    half = np.concatenate([RGB // 2, ALPHA // 2], axis=2)  # multiplied with an alpha of a half
    found = read_image(tiff(half, photometric="rgb", extrasamples=["assocalpha"]), white_level=4095).astype(int)
    assert np.abs(found - (expected(4095).astype(int) + 255) / 2).max() <= 2


def test_references_of_a_loaded_detector_are_seen_again_under_the_same_white(tmp_path):
    from vlad import AnomalyDetector
    from vlad.backbones.lite.backbone import LiteBackbone

    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(rng.integers(1500, 2600, (96, 96, 3)).astype(np.uint16)))
    lite = LiteBackbone(device="cpu")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    detector = AnomalyDetector(lite, white_level=4095, rotations=1).fit(paths[:2])
    folder = detector.save(tmp_path / "model")
    assert AnomalyDetector.load(folder, backbone=lite, top_share=0.05).predict(paths[2]).threshold is not None
    added = AnomalyDetector.load(folder, backbone=lite).add_references(paths[2])
    assert not any("cannot be seen again" in note for note in added.fit_report.notes)
    assert added.memory.calibration == AnomalyDetector(lite, white_level=4095, rotations=1).fit(paths).memory.calibration


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    data = tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    small = io.BytesIO()
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(expected(4095)).save(small, "PNG", exif=exif)
    assert (read_image(data, white_level=4095) == read_image(small.getvalue())).all()


def test_other_kinds_of_numbers():
    assert np.abs(read_image(tiff((RGB / 4095).astype(np.float32), photometric="rgb")).astype(int) - expected(4095)).max() <= 1
    assert np.abs(read_image(tiff((RGB / 4095).astype(np.float16), photometric="rgb")).astype(int) - expected(4095)).max() <= 1
    assert np.abs(read_image(tiff(RGB.astype(np.uint32) * (2**20), photometric="rgb")).astype(int) - RGB // 16).max() <= 1
    ink = np.concatenate([65535 - RGB * 16, ALPHA * 0], axis=2).astype(np.uint16)
    assert np.abs(read_image(tiff(ink, photometric="separated")).astype(int) - expected(4095)).max() <= 1
    grey = read_image(tiff(np.concatenate([RGB[..., :1] * 16, ALPHA], axis=2), photometric="minisblack", extrasamples=["unassalpha"]))
    assert np.abs(grey.astype(int) - expected(4095)[..., :1]).max() <= 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SEVEN, "has 7 channels of 16 bits, expected 1, 3 or 4"),
        (tiff(RGB.astype(np.int16), photometric="rgb"), "values of type int16"),
        (FILES["PNG"][:-300], "cannot be read"),
        (FILES["strips"][:-3000], "cannot be read|is damaged"),
        (FILES["tiled"][:200], "cannot be read|is damaged"),
    ],
    ids=["channels", "signed", "PNG cut off", "TIFF cut off", "TIFF without pixels"],
)
def test_what_cannot_be_read_is_an_error_of_ours(data, words):
    with pytest.raises(ImageReadError, match=words):
        read_image(data)


@pytest.mark.parametrize("bits", [10, 12])
def test_fewer_bits_that_the_file_states(bits):
    pytest.importorskip("imagecodecs", reason="an extra that is not installed; it packs the bits")
    values = RGB >> (12 - bits)
    found = read_image(tiff(values, photometric="rgb", bitspersample=bits))
    assert np.abs(found.astype(float) - values / (2**bits - 1) * 255).max() <= 0.51
    assert (found == read_image(tiff(values, photometric="rgb", bitspersample=bits), white_level=4095)).all(), "it says what is white"


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", [np.float32, np.uint32])
def test_orientation_of_other_kinds_of_numbers(kind, orientation):
    tags = [(274, "H", 1, orientation, True)]
    values = (RGB / 4095).astype(np.float32) if kind is np.float32 else RGB.astype(np.uint32) << 20
    found = read_image(tiff(values, photometric="rgb", extratags=tags))
    assert np.abs(found.astype(int) - np.rot90(expected(4095), {3: 2, 6: 3}[orientation])).max() <= 1


def test_grey_of_32_bits_has_no_sign():
    values = np.linspace(0, 2**32 - 1, 40 * 56).reshape(40, 56).astype(np.uint32)
    with pytest.warns(VladWarning, match="stretched"):
        found = read_image(tiff(values))
    assert np.abs(found[..., 0] - values / (2**32 - 1) * 255).max() <= 0.51
    assert (read_image(tiff(RGB[..., 0].astype(np.uint32)), white_level=4095) == expected(4095)[..., :1]).all()


def test_floats_beyond_1_are_stretched_in_colour_as_in_grey():
    for values in (RGB.astype(np.float32), RGB[..., 0].astype(np.float32)):
        with pytest.warns(VladWarning, match=r"stretched from \[0, 4095\]|stretched from"):
            found = read_image(tiff(values, **({"photometric": "rgb"} if values.ndim == 3 else {})))
        assert found.max() == 255 and np.abs(found.reshape(40, 56, 3)[..., 0] - values.reshape(40, 56, -1)[..., 0] / 4095 * 255).max() < 2


def test_a_strip_that_holds_more_than_it_shows():
    data = tiff(np.zeros((64, 64, 3), np.float32), photometric="rgb", compression="deflate", rowsperstrip=64)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        place, count = page.tags["StripByteCounts"].valueoffset, len(data)
        offsets = page.tags["StripOffsets"].valueoffset
    bomb = zlib.compress(bytes(50_000_000), 9)
    order = "little" if data[:2] == b"II" else "big"
    made = bytearray(data) + bomb
    made[place : place + 4] = len(bomb).to_bytes(4, order)
    made[offsets : offsets + 4] = count.to_bytes(4, order)
    with pytest.raises(ImageReadError, match="a part of it holds more than it shows"):
        read_image(bytes(made))


def test_a_second_header_does_not_get_round_the_limit():
    data = FILES["PNG"]
    header = bytearray(data[8:33])
    header[8:16] = (30_000).to_bytes(4, "big") * 2
    header[21:25] = zlib.crc32(bytes(header[4:21])).to_bytes(4, "big")
    with pytest.raises(ImageReadError, match=r"the limit is 100,000,000|cannot be read"):
        read_image(data[:33] + bytes(header) + data[33:])


def test_what_is_opaque_is_not_white(tmp_path):
    assert find_white_level([png(RGBA)]) == 4095
    assert find_white_level([b"P5 8 8 900\n" + bytes(range(128))]) is None, "netpbm states its own"


def test_size_is_looked_at_before_anything_is_decoded():
    for name in ("PNG", "strips", "planar, tiled"):
        with pytest.raises(ImageReadError, match="has 56 x 40 = 2,240 pixels, the limit is 2,000"):
            read_image(FILES[name], max_pixels=2000)
    lying = bytearray(FILES["PNG"])
    lying[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageReadError, match="the limit is"):
        read_image(bytes(lying))


def test_a_tile_counts_as_a_whole():
    data = bytearray(tiff(np.zeros((64, 64, 3), np.uint16), photometric="rgb", tile=(1024, 1024), compression="deflate"))
    with pytest.raises(ImageReadError, match="has 1024 x 1024 = 1,048,576 pixels, the limit is 10,000"):
        read_image(bytes(data), max_pixels=10_000)


def test_white_is_not_looked_for_beyond_the_limit(monkeypatch):
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda *_: pytest.fail("decoded"))
    assert find_white_level([png(RGB[..., 0])], max_pixels=2000) is None


def test_a_white_level_that_was_said_is_not_doubted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(FILES["PNG"], white_level=65535)


@pytest.mark.parametrize(("highest", "level"), [(700, 1023), (1024, 4095), (4095, 4095), (5000, 16383), (40000, 65535)])
def test_white_is_found_from_the_highest_value(tmp_path, highest, level):
    dark, bright = np.full((20, 20, 3), 30, np.uint16), np.full((20, 20), highest, np.uint16)
    (tmp_path / "dark.png").write_bytes(png(dark))
    (tmp_path / "8 bits.png").write_bytes(png((bright // 256).astype(np.uint8)))
    (tmp_path / "no picture.png").write_bytes(b"no picture")
    assert find_white_level([tmp_path / "dark.png", bright, tmp_path / "8 bits.png", tmp_path / "no picture.png"]) == level
    assert find_white_level([tmp_path / "8 bits.png"]) is None


class TestDetector:
    @pytest.fixture(scope="class")
    def lite(self):
        return LiteBackbone(device="cpu")

    @pytest.fixture
    def files(self, tmp_path) -> list[Path]:
        found = []
        for number in range(4):
            noise = np.random.default_rng(number).normal(0, 40, (224, 224, 3))
            pixels = (2000 + 1500 * np.sin(np.arange(224) / 9)[None, :, None] + noise).clip(0, 4095).astype(np.uint16)
            found.append(tmp_path / f"{number}.png")
            found[-1].write_bytes(png(pixels))
        return found

    def test_as_if_all_had_been_scaled(self, lite, files, tmp_path):
        quiet = warnings.catch_warnings()
        with quiet:
            warnings.simplefilter("ignore")
            scaled = [read_image(path, white_level=4095) for path in files]
            given = AnomalyDetector(lite, rotations=1, white_level=4095).fit(files[:3])
            found = AnomalyDetector(lite, rotations=1, white_level="auto").fit(files[:3])
            plain = AnomalyDetector(lite, rotations=1).fit(scaled[:3])
        want = plain.predict(scaled[3])
        for detector in (given, found, AnomalyDetector.load(found.save(tmp_path / "found"), backbone=lite)):
            result = detector.predict(files[3])
            assert result.pred_score == want.pred_score and (result.image == scaled[3]).all() and result.threshold == want.threshold
        assert found.memory.settings.white_level == 4095 == found.reader.white_level

    def test_a_folder_keeps_its_white_level(self, lite, files, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = AnomalyDetector(lite, rotations=1, white_level=4095).fit(files[:3]).save(tmp_path / "model")
            assert AnomalyDetector.load(folder, backbone=lite, white_level="auto").reader.white_level == 4095
            again = AnomalyDetector.load(folder, backbone=lite).add_references(files[3])
        assert len(again.references) == 4 and again.memory.calibration.conditions.white_level == 4095
        with pytest.raises(ConfigError, match="was fitted with white_level=4095, not 1023"):
            AnomalyDetector.load(folder, backbone=lite, white_level=1023)

    def test_labelled_pictures_are_seen_again_as_they_were(self, lite, files, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = AnomalyDetector(lite, rotations=1, white_level=4095).fit(files[:2])
            detector.calibrate([files[2]], [files[3]])
            before = [one.score for one in detector.labels.pictures]
            loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=lite)
            loaded.add_references(np.zeros((224, 224, 3), np.uint8))
            loaded.remove_references(np.zeros((224, 224, 3), np.uint8))
        assert [one.score for one in loaded.labels.pictures] == pytest.approx(before, abs=1e-6)

    @pytest.mark.parametrize("wrong", [0, 254, 70_000, 4095.0, True, "automatic"])
    def test_out_of_range(self, lite, wrong):
        with pytest.raises(ConfigError, match="white_level must be None, 'auto', or a whole number from 255 to 65535"):
            AnomalyDetector(lite, white_level=wrong)


class TestSpecial:
    def test_dicom(self, tmp_path):
        grey = expected(4095)[..., :1].astype(int)
        assert np.abs(read_image(dicom(RGB[..., 0])) - grey).max() <= 1
        assert np.abs(read_image(dicom(RGB[..., 0], PhotometricInterpretation="MONOCHROME1")) - (255 - grey)).max() <= 1
        window, stored = read_image(dicom(RGB[..., 0], WindowCenter=1000, WindowWidth=1000))[..., 0], RGB[..., 0]
        assert (window[stored < 495] == 0).all() and (window[stored > 1505] == 255).all()
        assert np.abs(window[(stored > 510) & (stored < 1490)] - (stored[(stored > 510) & (stored < 1490)] - 500.0) * 0.255).max() <= 1
        (tmp_path / "scan.dcm").write_bytes(dicom(RGB[..., 0]))
        assert find_images([tmp_path]) == [tmp_path / "scan.dcm"]
        with pytest.raises(ImageReadError, match="the limit is 100"):
            read_image(dicom(RGB[..., 0]), max_pixels=100)

    @pytest.mark.parametrize("kind", ["YBR_FULL", "PALETTE COLOR", "empty window"])
    def test_other_kinds_of_dicom(self, kind):
        if kind == "empty window":
            assert (read_image(dicom(RGB[..., 0], WindowCenter=None, WindowWidth=None)) == read_image(dicom(RGB[..., 0]))).all()
            return
        flat = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": kind}
        if kind == "YBR_FULL":
            ycc = cv2.cvtColor(np.full((40, 56, 3), (200, 50, 50), np.uint8), cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
            found = read_image(dicom(RGB[..., 0], **flat, SamplesPerPixel=3, PlanarConfiguration=0, PixelData=ycc.tobytes()))
            assert np.abs(found.astype(int) - [200, 50, 50]).max() <= 3
            return
        table = {f"{name}PaletteColorLookupTableDescriptor": [2, 0, 16] for name in ("Red", "Green", "Blue")}
        levels = {"Red": (65535, 0), "Green": (0, 65535), "Blue": (0, 0)}
        table |= {f"{name}PaletteColorLookupTableData": np.array(values, np.uint16).tobytes() for name, values in levels.items()}
        indices = np.zeros((40, 56), np.uint8)
        indices[20:] = 1
        found = read_image(dicom(RGB[..., 0], **flat, **table, PixelData=indices.tobytes()))
        assert (found[:20] == [255, 0, 0]).all() and (found[20:] == [0, 255, 0]).all()

    def test_raw_files_are_taken_where_there_is_nothing_else(self, tmp_path):
        for name in ("a.dng", "b.NEF"):
            (tmp_path / name).write_bytes(b"II*\0")
        assert [path.name for path in find_images([tmp_path])] == ["a.dng", "b.NEF"]
        (tmp_path / "a.jpg").write_bytes(b"")
        assert [path.name for path in find_images([tmp_path])] == ["a.jpg"]
        assert [path.name for path in find_images([str(tmp_path / "*.dng")])] == ["a.dng"]

    def test_raw(self, tmp_path):
        pytest.importorskip("rawpy", reason="an extra that is not installed")
        path = tmp_path / "bayer.dng"
        found = []
        for level in (600, 1500, 3000):
            tifffile.imwrite(path, np.full((128, 192), level, np.uint16), photometric=32803, extratags=DNG)
            found.append(read_image(path))
        assert {picture.shape[2] for picture in found} == {3} and all(picture[40:80, 40:80].std(axis=(0, 1)).max() < 1 for picture in found)
        assert 0 < found[0].mean() < found[1].mean() < found[2].mean(), "one exposure is not stretched to look like another"

    @pytest.mark.parametrize("source", ["bytes", "an open file", "another name"])
    def test_raw_is_known_by_what_it_holds(self, tmp_path, source):
        pytest.importorskip("rawpy", reason="an extra that is not installed")
        path = tmp_path / "bayer.dng"
        tifffile.imwrite(path, np.full((128, 192), 1500, np.uint16), photometric=32803, extratags=DNG)
        expected = read_image(path)
        if source == "another name":
            path = path.rename(tmp_path / "upload.tif")
        found = read_image(path.read_bytes() if source == "bytes" else path.open("rb") if source == "an open file" else path)
        assert (found == expected).all()

    def test_a_jpeg_with_the_name_of_a_raw_file(self, tmp_path):
        Image.fromarray(expected(4095)).save(tmp_path / "a.jpg", quality=95)
        (tmp_path / "a.jpg").rename(tmp_path / "a.dng")
        assert read_image(tmp_path / "a.dng").shape == (40, 56, 3)

    def test_deflated_dicom_is_told(self):
        pytest.importorskip("pydicom", reason="an extra that is not installed")
        data = dicom(RGB[..., 0])
        with pytest.raises(ImageReadError, match=r"is a deflated DICOM file.*save it as Explicit VR Little Endian"):
            read_image(data + b"1.2.840.10008.1.2.1.99")

    @pytest.mark.parametrize(("library", "name"), [("pydicom", "scan.dcm"), ("rawpy", "photo.nef")])
    def test_without_the_library_the_error_says_what_to_install(self, tmp_path, monkeypatch, library, name):
        original = builtins.__import__

        def missing(wanted: str, *rest: object) -> object:
            if wanted.partition(".")[0] == library:
                raise ImportError(wanted)
            return original(wanted, *rest)

        monkeypatch.setattr(builtins, "__import__", missing)
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" if library == "pydicom" else b"II*\0" + b"\0" * 200)
        with pytest.raises(ImageReadError, match=rf"{name}: is a .* for which {library} is missing; pip install 'vlad-anomaly\[formats\]'"):
            read_image(tmp_path / name)

    def test_without_imagecodecs_opencv_reads_the_usual_compressions(self, monkeypatch):
        codecs = pytest.importorskip("imagecodecs", reason="tifffile writes LZW with it alone")
        data = tiff(RGB, photometric="rgb", compression="lzw")
        planar = tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", compression="lzw")

        def missing(*_: object) -> object:
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        assert codecs is not None
        monkeypatch.setattr("tifffile.TiffPage.asarray", missing)
        assert (read_image(data, white_level=4095) == expected(4095)).all()
        with pytest.raises(ImageReadError, match=r"compressed with LZW, for which imagecodecs is missing; pip install"):
            read_image(planar)


def test_the_note_is_given_once_a_picture():
    with pytest.warns(VladWarning, match="nearly black") as notes:
        read_image(FILES["PNG"])
    assert len(notes) == 1
