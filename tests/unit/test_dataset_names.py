"""Data sets as people have them: folders of any name, masks of any kind, and a word on what was taken for what."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad.errors import DatasetError, VladWarning
from vlad.evaluation.datasets import listed, load_dataset, read_mask, read_truth
from vlad.evaluation.datasets.check import check_dataset
from vlad.pictures.folders import Roles, normal_pictures
from vlad.pictures.masks import find_masks, partner_of

SIZE = (24, 32)
DEFECT = np.zeros(SIZE, bool)
DEFECT[3:7, 10:15] = True


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def picture(root: Path, *places: str, size: tuple[int, int] = SIZE) -> None:
    for place in places:
        seed = abs(hash(place)) % 10_000
        save(root / place, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def mask(root: Path, *places: str, value: np.ndarray = DEFECT) -> None:
    for place in places:
        save(root / place, value.astype(np.uint8) * 255)


def counts(root: Path, **options: object) -> tuple[int, int, int, int]:
    """References, good, anomalous, marked."""
    (category,) = load_dataset(root, **options).categories
    bad = [one for one in category.test if one.is_anomalous]
    return len(category.references), len(category.test) - len(bad), len(bad), sum(one.is_marked for one in bad)


@pytest.mark.parametrize(
    ("good", "bad"), [("Negative", "Positive"), ("OK", "NG"), ("pass", "fail"), ("Normal", "Abnormal"), ("non-defective", "d")]
)
def test_usual_names(tmp_path, good, bad):
    picture(tmp_path / "plain", f"{good}/0.png", f"{good}/1.png", f"{bad}/0.png")
    assert counts(tmp_path / "plain") == (2, 2, 1, 0)
    for place in (f"train/{good}/0.png", f"train/{good}/1.png", f"train/{bad}/9.png", f"test/{good}/2.png", f"test/{bad}/3.png"):
        picture(tmp_path / "split", place)
    save(tmp_path / "split" / "ground_truth" / bad / "3.jpg", DEFECT.astype(np.uint8) * 255)
    assert counts(tmp_path / "split") == (2, 1, 1, 1)


@pytest.mark.parametrize("letters", [str.upper, str.title])
def test_large_and_small_letters(tmp_path, letters):
    picture(tmp_path, *(f"{letters(one)}/{letters(two)}/0.png" for one, two in (("train", "good"), ("test", "good"), ("test", "bad"))))
    mask(tmp_path, f"{letters('ground_truth')}/{letters('bad')}/0_mask.png")
    assert counts(tmp_path) == (1, 1, 1, 1)


def test_any_names(tmp_path):
    picture(tmp_path, "schön/0.png", "schön/1.png", "kaputt/0.png", "unklar/0.png")
    with pytest.raises(DatasetError, match="no known layout"):
        load_dataset(tmp_path)
    with pytest.raises(DatasetError, match="there is kaputt, schön, unklar; say which it is with --normal NAME"):
        load_dataset(tmp_path, "folder")
    assert counts(tmp_path, normal=["SCHÖN"]) == (2, 2, 2, 0)
    assert counts(tmp_path, normal=["schön"], anomalous=["kaputt"]) == (2, 2, 1, 0)
    with pytest.raises(DatasetError, match="--anomalous kaput: there is no such folder; there are kaputt"):
        load_dataset(tmp_path, normal=["schön"], anomalous=["kaput"])
    (category,) = load_dataset(tmp_path, normal=["schön"], anomalous=["kaputt"]).categories
    assert listed(category.folders, tmp_path) == ["kaputt: anomalous, 1 picture", "schön: normal, 2 pictures", "unklar: left out"]


def test_what_is_said_goes_before_what_is_usual(tmp_path):
    picture(tmp_path, "positive/0.png", "positive/1.png", "good/0.png", "labels/0.png")
    assert counts(tmp_path, normal=["positive"], anomalous=["labels"]) == (2, 2, 1, 0)
    assert counts(tmp_path, normal=["positive"]) == (2, 2, 1, 1), "good is not normal any more, labels are masks"


def test_layouts_with_names_of_their_own(tmp_path):
    picture(tmp_path, "kos01/Part0.jpg")
    with pytest.raises(DatasetError, match="--normal and --anomalous are for mvtec and folder"):
        load_dataset(tmp_path, "ksdd", normal=["x"])


@pytest.mark.parametrize(
    "place",
    [
        "MASK/{0}", "Masks/NG/{0}", "Ground_Truth/NG/{0}", "GroundTruth/{0}", "labels/{0}", "gt/{0}", "annotations/NG/{0}_mask",
        "NG/masks/{0}", "NG/{0}_mask", "NG/{0}_gt", "NG/mask_{0}", "NG/{0}-label", "segmentation/{0}_seg", "NG/{0}.mask",
        "ground-truth/NG/{0}_mask_0", "gt/NG/{0}/region",
    ],
)  # fmt: skip
def test_masks_are_no_pictures(tmp_path, place):
    picture(tmp_path, *(f"{folder}/{number}.png" for folder in ("OK", "NG") for number in range(2)))
    mask(tmp_path, *(f"{place.format(number)}.png" for number in range(2)))
    assert counts(tmp_path) == (2, 2, 2, 2)
    assert not [finding for finding in check_dataset(load_dataset(tmp_path)) if finding.level != "note"]


def test_masks_beside_pictures_in_subfolders(tmp_path):
    for place in ("good/line_1/0", "NG/line_1/0", "NG/line_2/0"):
        picture(tmp_path, f"{place}.png")
    mask(tmp_path, "masks/NG/line_1/0.png", "NG/line_2/masks/0.png")
    (category,) = load_dataset(tmp_path).categories
    assert [one.masks[0].relative_to(tmp_path).as_posix() for one in category.test if one.is_anomalous] == [
        "masks/NG/line_1/0.png", "NG/line_2/masks/0.png",
    ]  # fmt: skip


def test_a_picture_with_the_name_of_a_mask_stays_one_without_a_partner(tmp_path):
    picture(tmp_path, "good/0.png", "good/1.png", "NG/face_mask.png", "NG/label.png")
    assert counts(tmp_path) == (2, 2, 2, 0)


def test_several_masks_of_one_picture(tmp_path):
    other = np.zeros(SIZE, bool)
    other[20:22, 2:4] = True
    picture(tmp_path, "good/0.png", "good/1.png", "bad/0.png", "bad/0_1.png", "bad/1.png")
    mask(tmp_path, "masks/bad/0_mask_0.png", "masks/bad/0_1_mask.png", "masks/bad/1_0.png")
    mask(tmp_path, "masks/bad/0_mask_1.png", "masks/bad/1_1.png", value=other)
    (category,) = load_dataset(tmp_path).categories
    found = {one.path.stem: [path.name for path in one.masks] for one in category.test if one.is_anomalous}
    assert found == {"0": ["0_mask_0.png", "0_mask_1.png"], "0_1": ["0_1_mask.png"], "1": ["1_0.png", "1_1.png"]}
    truth = read_truth(next(one for one in category.test if one.is_anomalous and one.path.stem == "0"), category, SIZE)
    assert (truth.area == (DEFECT | other)).all()


def test_names_of_masks(tmp_path):
    partners = {"x_mask.png": "x", "x-GT.bmp": "x", "mask_x.png": "x", "x_mask_3.png": "x", "x_0_mask.png": "x_0", "x_3.png": None}
    assert {name: partner_of(Path(name)) for name in partners} == partners
    mask(tmp_path, "a.png", "a.bmp", "a_mask.png", "B.PNG")
    assert [path.name for path in find_masks(tmp_path, "a")] == ["a_mask.png"] and find_masks(tmp_path, "b")[0].name == "B.PNG"
    assert find_masks(tmp_path, "c") == () == find_masks(tmp_path / "missing", "a")


def labelme(*shapes: dict, size: tuple[int, int] = SIZE) -> str:
    return json.dumps({"version": "5.4.1", "imagePath": "0.png", "imageHeight": size[0], "imageWidth": size[1], "shapes": list(shapes)})


@pytest.mark.parametrize(
    "kind",
    ["npy bool", "npy float", "npy hw1", "tiff float", "1", "L", "16", "RGB", "RGBA", "RGBA opaque", "LA", "PA", "P", "labelme"],
)
def test_masks_of_any_kind(tmp_path, kind):
    ink = DEFECT.astype(np.uint8) * 255
    path = tmp_path / "0.png"
    if kind.startswith("npy"):
        path = tmp_path / "0.npy"
        values = {"bool": DEFECT, "float": np.where(DEFECT, 0.3, np.nan), "hw1": DEFECT[..., None].astype(np.int16)}
        np.save(path, values[kind.removeprefix("npy ")])
    elif kind == "labelme":
        path = tmp_path / "0.json"
        path.write_text(labelme({"label": "scratch", "shape_type": "rectangle", "points": [[10, 3], [15, 7]]}))
    elif kind == "tiff float":
        path = save(tmp_path / "0.tif", DEFECT.astype(np.float32) * 0.5)
    else:
        pictures = {
            "1": Image.fromarray(ink).convert("1"),
            "L": Image.fromarray(DEFECT.astype(np.uint8)),
            "16": Image.fromarray(DEFECT.astype(np.uint16) * 3),
            "RGB": Image.fromarray(np.dstack([ink, ink * 0, ink * 0])),
            "RGBA": Image.fromarray(np.dstack([ink * 0, ink * 0, ink * 0, ink])),
            "RGBA opaque": Image.fromarray(np.dstack([ink, ink, ink, np.full_like(ink, 255)])),
            "LA": Image.fromarray(np.dstack([np.full_like(ink, 255), ink]), "LA"),
            "PA": Image.fromarray(np.dstack([ink, ink * 0, ink * 0, ink])).quantize(4),
            "P": Image.fromarray(np.dstack([ink, ink, ink])).quantize(2),
        }
        save(path, pictures[kind])
    assert ((read_mask(path) > 0) == DEFECT).all()


def test_colours_inside_what_is_opaque_decide(tmp_path):
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[2:20, 2:30, 3] = 255
    pixels[DEFECT] = 255
    assert ((read_mask(save(tmp_path / "0.png", pixels)) > 0) == DEFECT).all()


def test_shapes_of_labelme(tmp_path):
    path = tmp_path / "0.json"
    path.write_text(
        labelme({"points": [[10, 3], [15, 3], [15, 7], [10, 7]]}, {"shape_type": "circle", "points": [[25, 15], [25, 18]], "label": ""})
    )
    found = read_mask(path)
    assert (found[:10] > 0).sum() == DEFECT.sum() and (found[10:] > 0).sum() == pytest.approx(np.pi * 9, abs=5)
    for wrong, words in (
        (labelme({"shape_type": "rectangle", "points": [[1, 2]]}), r"shapes\[0\] is a rectangle of 1 points"),
        (labelme({"points": "x"}), "points must be a list of pairs"),
        ("[]", "must be an object"),
        (labelme({"points": [[1, 1], [2, 1e300], [3, 3]]}), "must be a number from"),
        (labelme(size=(30_000, 30_000)), "the limit is 100,000,000 pixels"),
        ("{" * 9999, "cannot be read"),
        ('{"imageHeight": 1e999}', "cannot be read"),
    ):
        path.write_text(wrong)
        with pytest.raises(DatasetError, match=words):
            read_mask(path)


@pytest.mark.parametrize("kind", ["point", "line", "linestrip"])
def test_a_shape_without_area_is_passed_over(tmp_path, kind):
    path = tmp_path / "0.json"
    inside = {"label": "scratch", "shape_type": "rectangle", "points": [[10, 3], [15, 7]]}
    path.write_text(labelme({"shape_type": kind, "points": [[1, 2], [3, 4]]}, inside).replace("24,", "24.0,"))
    with pytest.warns(VladWarning, match=rf"shapes\[0\] is a {kind}, which has no area"):
        assert ((read_mask(path) > 0) == DEFECT).all()


@pytest.mark.parametrize("kind", ["RGB", "JPEG", "P", "P, swapped"])
def test_red_on_white(tmp_path, kind):
    pixels = np.full((*SIZE, 3), 255, np.uint8)
    pixels[DEFECT] = [220, 0, 0]
    if kind == "JPEG":
        path = save(tmp_path / "0.jpg", pixels, quality=95, subsampling=0)
    elif kind == "RGB":
        path = save(tmp_path / "0.png", pixels)
    else:
        drawn = Image.fromarray(((kind == "P, swapped") != DEFECT).astype(np.uint8), "P")
        drawn.putpalette([220, 0, 0, 255, 255, 255] if kind == "P, swapped" else [255, 255, 255, 220, 0, 0])
        path = save(tmp_path / "0.png", drawn)
    assert ((read_mask(path) > 0) == DEFECT).all()


def test_annotations_beside_their_pictures(tmp_path):
    picture(tmp_path, "good/0.png", "good/1.png", "bad/0.png")
    (tmp_path / "bad" / "0.json").write_text(labelme({"points": [[10, 3], [15, 3], [15, 7], [10, 7]]}))
    (category,) = load_dataset(tmp_path).categories
    assert (read_truth(category.test[0], category, SIZE).area == DEFECT).all()


def test_a_mask_of_another_size_and_the_same_shape(tmp_path):
    picture(tmp_path, "good/0.png", "good/1.png", "bad/0.png", "bad/1.png", size=(48, 64))
    mask(tmp_path, "masks/bad/0.png", "masks/bad/1.png")
    (category,) = load_dataset(tmp_path).categories
    with pytest.warns(UserWarning, match=r"masks of 32 x 24 are brought to the 64 x 48 of their pictures"):
        truth = read_truth(category.test[0], category, (48, 64))
    assert (truth.area == np.kron(DEFECT, np.ones((2, 2), bool))).all()
    findings = [str(finding) for finding in check_dataset(load_dataset(tmp_path))]
    assert len(findings) == 1 and findings[0].startswith("note: resized-mask") and "brought to the 64 x 48" in findings[0]
    with pytest.raises(DatasetError, match="both must have one size, or one shape"):
        read_truth(category.test[0], category, (48, 60))


def test_white_masks_are_asked_about(tmp_path):
    picture(tmp_path, "good/0.png", "good/1.png", "bad/0.png")
    mask(tmp_path, "masks/bad/0.png", value=~DEFECT)
    (finding,) = check_dataset(load_dataset(tmp_path))
    assert finding.kind == "inverted-masks" and "mark 97% of their pictures" in str(finding) and "add --white-is-good" in str(finding)
    dataset = load_dataset(tmp_path, white_is_good=True)
    assert check_dataset(dataset) == []
    assert (read_truth(dataset.categories[0].test[0], dataset.categories[0], SIZE).area == DEFECT).all()
    mask(tmp_path, "masks/bad/0.png")
    (finding,) = check_dataset(load_dataset(tmp_path, white_is_good=True))
    assert "leave --white-is-good out" in str(finding)


def test_what_looks_like_a_mask_among_the_pictures_is_told(tmp_path):
    picture(tmp_path, "good/0.png", "good/1.png", "bad/0.png")
    mask(tmp_path, "other/1.png")
    found = [finding for finding in check_dataset(load_dataset(tmp_path)) if finding.level == "warning"]
    assert [finding.kind for finding in found] == ["looks-like-a-mask"] and "1.png has no colour but black and white" in str(found[0])


class TestFlatMasks:
    def test_one_that_would_be_that_of_two_pictures_is_of_neither(self, tmp_path):
        picture(tmp_path, "good/9.png", "good/8.png", "dent/0.png", "hole/0.png", "hole/1.png")
        mask(tmp_path, "masks/0.png", "masks/1.png")
        assert counts(tmp_path) == (2, 2, 3, 1)
        missing = [one.message for one in check_dataset(load_dataset(tmp_path)) if one.kind == "missing-mask"]
        assert len(missing) == 2 and "hole/0.png has no mask" in missing[1] and missing[1].endswith("masks/hole/0_mask.png")

    def test_the_picture_of_another_kind_keeps_its_own(self, tmp_path):
        picture(tmp_path, "good/9.png", "good/8.png", "dent/part.png", "hole/part_1.png")
        mask(tmp_path, "masks/part.png", "masks/part_1.png")
        (category,) = load_dataset(tmp_path).categories
        found = {one.path.name: [m.name for m in one.masks] for one in category.test if one.is_anomalous}
        assert found == {"part.png": ["part.png"], "part_1.png": ["part_1.png"]}


class TestWithoutMasks:
    def test_a_set_without_any(self, tmp_path):
        picture(tmp_path, "train/good/0.png", "test/good/0.png", "test/bad/0.png")
        findings = check_dataset(load_dataset(tmp_path))
        assert (
            [finding.kind for finding in findings if finding.level != "note"] == ["duplicate"]
            or not findings
            or {f.level for f in findings} == {"note"}
        )
        (category,) = load_dataset(tmp_path).categories
        assert read_truth(category.test[0], category, SIZE) is None

    def test_a_kind_of_defect_without_any_is_told(self, tmp_path):
        picture(tmp_path, "good/0.png", "good/1.png", "bent/0.png", "torn/0.png")
        mask(tmp_path, "masks/torn/0.png")
        (finding,) = check_dataset(load_dataset(tmp_path))
        assert finding.kind == "no-masks" and "no picture of bent has a mask" in str(finding) and finding.level == "warning"

    def test_one_that_is_missing_among_others_is_an_error(self, tmp_path):
        picture(tmp_path, "train/good/0.png", "test/good/1.png", "test/bad/0.png", "test/bad/1.png")
        mask(tmp_path, "ground_truth/bad/0_mask.png")
        assert "missing-mask" in [finding.kind for finding in check_dataset(load_dataset(tmp_path))]


class TestSorted:
    def test_references_of_a_sorted_folder(self, tmp_path):
        picture(tmp_path, "OK/0.png", "OK/1.png", "NG/0.png", "gt/0.png")
        files, taken = normal_pictures(tmp_path, Roles())
        assert listed(taken, tmp_path) == ["NG: left out, 1 picture", "OK: references, 2 pictures", "gt: left out, 1 picture"]
        assert files == [tmp_path / "OK/0.png", tmp_path / "OK/1.png"]
        assert normal_pictures(tmp_path / "OK", Roles()) == ([], ()) == normal_pictures(tmp_path / "NG", Roles())

    def test_training_pictures_go_before(self, tmp_path):
        picture(tmp_path, "train/good/0.png", "test/good/0.png", "test/bad/0.png")
        assert [(one.path.relative_to(tmp_path).as_posix(), one.role) for one in normal_pictures(tmp_path, Roles())[1]] == [
            ("train/good", "references"), ("test", "left out"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "names, expected",
        [
            (["train/0.png", "train/1.png", "test/good/0.png", "test/bad/0.png", "ground_truth/bad/0.png"], ["train/0.png", "train/1.png"]),
            (["train/images/0.png", "train/masks/0.png", "test/bad/0.png"], ["train/images/0.png"]),
            (["references/0.png", "scratch/0.png"], ["references/0.png"]),
            (["test/good/0.png", "test/bad/0.png"], ["test/good/0.png"]),
            (["train/bad/0.png", "train/ok/0.png", "good/1.png"], ["train/ok/0.png"]),
            (["day1/0.png", "day2/0.png"], []),
            (["0.png", "good/1.png"], []),
        ],
    )
    def test_what_is_for_training_without_a_folder_of_normal_ones(self, tmp_path, names, expected):
        picture(tmp_path, *names)
        assert [one.relative_to(tmp_path).as_posix() for one in normal_pictures(tmp_path, Roles())[0]] == expected

    def test_python_sorts_as_the_command_does(self, tmp_path):
        from vlad import AnomalyDetector

        picture(tmp_path, "set/train/0.png", "set/train/1.png", "set/test/bad/0.png", "set/masks/bad/0.png", size=(64, 64))
        picture(tmp_path, "new/good/a.png", "new/good/b.png", "new/bad/a.png", size=(64, 64))
        detector = AnomalyDetector.from_pretrained("lite")
        with pytest.warns(VladWarning, match=r"set is sorted, only its normal pictures are taken: train: references, 2 pictures"):
            detector.fit(tmp_path / "set")
        assert [Path(one.path).parent.name for one in detector.references] == ["train", "train"]
        with pytest.warns(VladWarning, match=r"new is sorted, only its normal pictures are taken: bad: left out, 1 picture"):
            detector.calibrate(good=tmp_path / "new")
        assert sorted(Path(one.picture.path).name for one in detector.labels.pictures) == ["a.png", "b.png"]

    def test_fit_takes_them_and_says_so(self, tmp_path):
        import sys

        sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
        from command import vlad

        picture(tmp_path, "set/OK/0.png", "set/OK/1.png", "set/NG/0.png", "set/odd/0.png", size=(64, 64))
        with warnings.catch_warnings():
            run = vlad("fit", tmp_path / "set", "--out", tmp_path / "model", "--model", "lite")
        assert run.returncode == 0 and "OK: references, 2 pictures" in run.stderr and "NG: left out, 1 picture" in run.stderr
        assert "references: 2 pictures" in run.stderr
        run = vlad("fit", tmp_path / "set", "--normal", "odd", "--out", tmp_path / "model", "--model", "lite")
        assert run.returncode == 0 and "odd: references, 1 picture" in run.stderr
        run = vlad("fit", tmp_path / "set", "--anomalous", "tpyo", "--out", tmp_path / "model", "--model", "lite")
        assert run.returncode == 2 and "expected a folder called tpyo in it; see --anomalous" in run.stderr
        run = vlad("fit", tmp_path / "set", "--normal", "fine", "--out", tmp_path / "model", "--model", "lite")
        assert run.returncode == 2 and "expected a folder called fine in it" in run.stderr
