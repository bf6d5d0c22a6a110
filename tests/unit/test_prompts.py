"""Prompt sets: the sentences themselves, against a peer's and as English, and what is saved of them."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlad.errors import PromptError
from vlad.prompts import Override, PromptEnsemble, available_prompts, check_prompts
from vlad.prompts import ensemble as ensemble_file

ROOT = Path(__file__).parents[2]
SHIPPED = ["electronics", "food", "generic", "medical", "surfaces", "textiles", "winclip"]


def golden() -> dict[str, list[str]]:
    return json.loads((ROOT / "tests/parity/winclip_reference.json").read_text())


# The WinCLIP set against a peer's sentences


@pytest.mark.parametrize(("side", "states", "key"), [(0, 7, "normal_prompts"), (1, 4, "anomalous_prompts")])
def test_winclip_is_the_peers_list_less_its_repetition_and_its_article(side: int, states: int, key: str) -> None:
    ours, theirs = PromptEnsemble.load("winclip").sentences("metal_nut")[side], golden()[key]
    assert len(ours) == len(set(ours)) == 22 * states
    assert len(theirs) == 21 * states
    assert len(set(theirs)) == 20 * states  # "a jpeg corrupted photo of the" comes twice for each state
    repaired = {sentence.replace("a unblemished", "an unblemished") for sentence in theirs}
    assert repaired - set(ours) == set()
    missing = set(ours) - repaired  # the peer has these two frames with "the" only
    assert len(missing) == 2 * states
    assert {re.match(r"a (cropped|jpeg corrupted) photo of an? ", sentence) is not None for sentence in missing} == {True}
    positions = [ours.index(sentence) for sentence in dict.fromkeys(s.replace("a unblemished", "an unblemished") for s in theirs)]
    assert positions == sorted(positions)


def test_finished_sentences_keep_order_and_repetitions() -> None:
    peer = golden()
    ensemble = PromptEnsemble.from_sentences(normal=peer["normal_prompts"], anomalous=peer["anomalous_prompts"])
    assert ensemble.sentences("bottle") == (tuple(peer["normal_prompts"]), tuple(peer["anomalous_prompts"]))
    assert not ensemble.uses_class_name


def test_finished_sentences_take_the_class_name() -> None:
    ensemble = PromptEnsemble.from_sentences(normal=["a good {class_name}"], anomalous=["a photo of a {class_name}, cracked"])
    assert ensemble.sentences("pcb2") == (("a good printed circuit board",), ("a photo of a printed circuit board, cracked",))
    assert ensemble.sentences("leather") == (("good leather",), ("a photo of leather, cracked",))
    assert ensemble.sentences("LED")[1] == ("a photo of an LED, cracked",)


def test_states_go_into_winclips_templates_by_default() -> None:
    normal, anomalous = PromptEnsemble.from_states(normal=["intact {class_name}"], anomalous=["scratch on {class_name}"]).sentences("wood")
    assert len(normal) == 22 and "a photo of small intact wood." in normal
    assert len(anomalous) == 22 and "a photo of a small scratch on wood." in anomalous


def test_states_in_order_and_each_sentence_once() -> None:
    ensemble = PromptEnsemble.from_states(
        normal=["{class_name}", "clean {class_name}"],
        anomalous=["bad {class_name}"],
        templates=["a photo of a {state}", "a photo of {state}"],
    )
    assert ensemble.sentences("nut")[0] == ("a photo of a nut", "a photo of nut", "a photo of a clean nut", "a photo of clean nut")
    assert ensemble.sentences("wood")[0] == ("a photo of wood", "a photo of clean wood")


# The shipped sets


def test_shipped_sets() -> None:
    infos = available_prompts()
    assert [info.name for info in infos] == SHIPPED
    for info in infos:
        path = ROOT / "prompts" / f"{info.name}.yaml"
        assert check_prompts(path) == []
        assert PromptEnsemble.load(path) == PromptEnsemble.load(info.name)
        assert "arXiv" in info.source or "written for vlad" in info.source
        assert min(info.n_normal, info.n_anomalous) >= 50


@pytest.mark.parametrize(
    ("name", "class_name", "side", "sentence"),
    [
        ("winclip", "apple", 0, "a photo of an apple."),
        ("winclip", "apple", 0, "a close-up photo of an unblemished apple."),
        ("winclip", "apple", 0, "a photo of a large unblemished apple."),
        ("winclip", "hazelnut", 1, "a dark photo of the hazelnut with flaw."),
        ("winclip", "candles", 0, "a photo of candles."),
        ("winclip", "leather", 1, "a photo of damaged leather for visual inspection."),
        ("winclip", "smd_resistor", 0, "a blurry photo of an SMD resistor without damage."),
        ("winclip", "usb", 0, "a photo of a small USB plug."),
        ("generic", "metal_nut", 0, "a photo of an undamaged object."),
        ("generic", None, 1, "a photo of an abnormal object."),
        ("generic", None, 1, "a cropped photo of the object with a missing part."),
        ("surfaces", None, 0, "a photo of an even surface."),
        ("surfaces", "wood", 1, "a macro photo of wood with a knot hole."),
        ("surfaces", "oak_wood", 1, "a photo of splintered oak wood."),
        ("surfaces", "magnetic_tile", 1, "a photo of a magnetic tile with a blowhole."),
        ("textiles", None, 0, "a close-up photo of evenly woven fabric."),
        ("textiles", "carpet", 1, "a photo of a carpet with a stray thread."),
        ("textiles", "leather", 0, "a photo of evenly grained leather on an inspection table."),
        ("electronics", "pcb3", 1, "a photo of a printed circuit board with a solder bridge."),
        ("electronics", "pcb3", 1, "a top view of a printed circuit board with a missing component."),
        ("electronics", "LED", 0, "a photo of an LED with all parts in place."),
        ("food", "macaroni2", 1, "a photo of moldy macaroni on a conveyor belt."),
        ("food", "apple", 0, "a photo of an apple of good quality."),
        ("food", "apple", 1, "a photo of the bruised apple."),
        ("medical", None, 0, "a healthy medical scan."),
        ("medical", "chest_ad", 1, "a picture of a chest X-ray with an opacity."),
        ("medical", "isic", 1, "a medical picture of skin with a melanoma."),
    ],
)
def test_sentences_read_as_english(name: str, class_name: str | None, side: int, sentence: str) -> None:
    sentences = PromptEnsemble.load(name).sentences(class_name)
    assert sentence in sentences[side]
    assert sentence not in sentences[1 - side]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_sentence_of_a_shipped_set_stumbles(name: str) -> None:
    ensemble = PromptEnsemble.load(name)
    for class_name in [None, "apple", "wood", "candles", "LED", *(override.class_name for override in ensemble.overrides)]:
        normal, anomalous = ensemble.sentences(class_name)
        assert not set(normal) & set(anomalous)
        for sentence in normal + anomalous:
            assert re.fullmatch(r"[A-Za-z' -]+\.", sentence), sentence
            assert not re.search(r"\b(?:an?|the) (?:an?|the)\b|\ba [aeio]|\ban [^aeiouLMX]|  |\ban? (?:wood|candles)", sentence), sentence


def test_a_medical_set_says_what_it_is_not() -> None:
    assert "not a medical device" in PromptEnsemble.load("medical").description


def test_overrides_replace_or_extend() -> None:
    ensemble = PromptEnsemble(
        name="gears",
        description="d",
        source="s",
        normal=("{class_name}",),
        anomalous=("bad {class_name}",),
        templates=("a {state}",),
        overrides=(
            Override("gear", extra_anomalous=("worn {class_name}",)),
            Override("ring_gear", normal=("round {class_name}",), anomalous=("oval {class_name}",)),
        ),
    )
    assert ensemble.sentences("shaft") == (("a shaft",), ("a bad shaft",))
    assert ensemble.sentences("bevel_gear") == (("a bevel gear",), ("a bad bevel gear", "a worn bevel gear"))
    assert ensemble.sentences("Ring-Gear") == (("a round ring gear",), ("an oval ring gear",))
    assert ensemble.sentences("landgear")[1] == ("a bad landgear",)  # whole words only


def test_default_class_name() -> None:
    ensemble = PromptEnsemble.from_states(
        normal=["{class_name}"], anomalous=["bad {class_name}"], templates=["a {state}"], class_name="oil_filter"
    )
    for missing in (None, "", "  ", "__", "42"):
        assert ensemble.sentences(missing)[0] == ("an oil filter",)


# Saved and compared


@pytest.mark.parametrize("name", SHIPPED)
def test_dict_both_ways(name: str) -> None:
    ensemble = PromptEnsemble.load(name)
    again = PromptEnsemble.from_dict(json.loads(json.dumps(ensemble.to_dict())))
    assert again == ensemble
    assert again.fingerprint == ensemble.fingerprint
    assert hash(again) == hash(ensemble)


def test_dict_both_ways_for_finished_sentences() -> None:
    ensemble = PromptEnsemble.from_sentences(normal=["a", "a"], anomalous=["b {class_name}"])
    assert PromptEnsemble.from_dict(ensemble.to_dict()) == ensemble


def test_fingerprint_follows_the_content_and_nothing_else() -> None:
    base = PromptEnsemble.from_states(normal=["{class_name}"], anomalous=["bad {class_name}"], templates=["a {state}"])
    same = [base, replace(base, name="other", description="other", source="other", version=2)]
    others = [
        replace(base, normal=("good {class_name}",)),
        replace(base, anomalous=("worn {class_name}",)),
        replace(base, templates=("the {state}",)),
        replace(base, class_name="nut"),
        replace(base, overrides=(Override("nut", extra_normal=("round {class_name}",)),)),
        replace(base, overrides=(Override("bolt", extra_normal=("round {class_name}",)),)),
    ]
    assert len({ensemble.fingerprint for ensemble in same}) == 1
    assert len({ensemble.fingerprint for ensemble in same + others}) == 1 + len(others)
    assert re.fullmatch("[0-9a-f]{16}", base.fingerprint)
    assert len({PromptEnsemble.load(name).fingerprint for name in SHIPPED}) == len(SHIPPED)


def test_fingerprint_follows_the_noun_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = PromptEnsemble.load("winclip")
    before = ensemble.fingerprint
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    with (tmp_path / "prompts/class_names.yaml").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(ensemble_file, "data_folder", lambda: tmp_path / "prompts")
    assert ensemble.fingerprint != before


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from vlad.prompts import PromptEnsemble; print(PromptEnsemble.load('electronics').fingerprint)"
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == PromptEnsemble.load("electronics").fingerprint


def test_parts_are_checked_without_a_file_too() -> None:
    with pytest.raises(PromptError, match=r"^states.normal\[1\]: expected no placeholder but {class_name}, got '\{0\}'"):
        PromptEnsemble.from_sentences(normal=["fine", "a {0}"], anomalous=["bad"])
    with pytest.raises(PromptError, match=r"^templates\[0\]: expected {state} once"):
        PromptEnsemble.from_states(normal=["x"], anomalous=["y"], templates=["a photo"])
    with pytest.raises(PromptError, match="at least one template"):
        PromptEnsemble.from_states(normal=["x"], anomalous=["y"], templates=[])
    with pytest.raises(PromptError, match="expected a list of texts, got the single text 'nut'"):
        PromptEnsemble.from_sentences(normal="nut", anomalous=["y"])
    with pytest.raises(PromptError, match=r"^states.anomalous: expected at least one text"):
        PromptEnsemble.from_sentences(normal=["x"], anomalous=[])
    with pytest.raises(PromptError, match="expected one of the keys"):
        PromptEnsemble.from_dict({**PromptEnsemble.load("generic").to_dict(), "colour": 1})
    with pytest.raises(PromptError, match=r"^prompts: expected a mapping"):
        PromptEnsemble.from_dict([])  # type: ignore[arg-type]
