"""Prompt files: every way one can be wrong, with file and line; where the shipped ones are found; and the command line around them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vlad.cli.prompts import app
from vlad.errors import PromptError
from vlad.prompts import PromptEnsemble, check_prompts
from vlad.prompts import files as prompt_files

ROOT = Path(__file__).parents[2]
SHIPPED = ["electronics", "food", "generic", "medical", "surfaces", "textiles", "winclip"]
SOUND = """\
name: mine
description: A set of mine.
source: me
version: 1
states:
  normal:
    - "flawless {class_name}"
  anomalous:
    - "damaged {class_name}"
templates:
  - "a photo of a {state}."
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


FAULTS: dict[str, tuple[str | bytes, int, str]] = {
    "unknown key": (SOUND + "colour: red\n", 12, "class_name, overrides, got 'colour'"),
    "unknown key in states": (SOUND.replace("  anomalous:", "  strange: [x]\n  anomalous:"), 8, "got 'strange'"),
    "missing key": (SOUND.replace("source: me\n", ""), 1, "expected the key 'source'"),
    "missing side": (SOUND.replace('  anomalous:\n    - "damaged {class_name}"\n', ""), 5, "expected the key 'anomalous' in states"),
    "missing templates": (SOUND[: SOUND.index("templates")], 1, "expected the key 'templates'"),
    "no mapping": ("- a\n- b\n", 1, "states, templates, got a list"),
    "empty file": ("\n# nothing\n", 1, "got an empty file"),
    "text for a list": (SOUND.replace('\n    - "flawless {class_name}"', " flawless"), 6, "expected a list of texts, got text"),
    "number for text": (SOUND.replace("source: me", "source: 3"), 3, "expected text, got a whole number (3)"),
    "yes for text": (SOUND.replace("source: me", "source: yes"), 3, "expected text, got true/false"),
    "unquoted placeholder": (SOUND.replace('"flawless {class_name}"', "{class_name}"), 7, "expected text, got a mapping: put it in quotes"),
    "text for the version": (SOUND.replace("version: 1", "version: new"), 4, "expected a whole number from 1 on, got text ('new')"),
    "version 0": (SOUND.replace("version: 1", "version: 0"), 4, "from 1 on"),
    "true for the version": (SOUND.replace("version: 1", "version: true"), 4, "from 1 on, got true/false"),
    "name with a slash": (SOUND.replace("name: mine", "name: ../mine"), 1, "expected a name of lower-case letters"),
    "empty list": (SOUND.replace('\n    - "flawless {class_name}"', " []"), 6, "expected at least one text, got an empty list"),
    "empty templates": (SOUND.replace('\n  - "a photo of a {state}."', " []"), 10, "expected at least one text, got an empty list"),
    "nothing for a list": (SOUND.replace('\n    - "flawless {class_name}"', ""), 6, "expected a list of texts, got nothing"),
    "empty text": (SOUND.replace("flawless {class_name}", ""), 7, "expected text, got an empty one"),
    "doubled blank": (SOUND.replace("flawless {", "flawless  {"), 7, "single spaces"),
    "two lines": (SOUND.replace("flawless {", "flawless\\n{"), 7, "one printable line"),
    "long text": (SOUND.replace("flawless", "f" * 200), 7, "at most 200 characters, got 213"),
    "state twice": (SOUND.replace("  anomalous", '    - "Flawless {class_name}"\n  anomalous'), 8, "again (already number 1)"),
    "template twice": (SOUND + '  - "a photo of an {state}."\n', 12, "expected each text once"),
    "state on both sides": (SOUND.replace("damaged", "flawless"), 9, "expected a state on one side only"),
    "unknown placeholder": (SOUND.replace("{class_name}", "{colour}", 1), 7, "no placeholder but {class_name}, got '{colour}' in"),
    "attribute": (SOUND.replace("{class_name}", "{class_name.__class__}", 1), 7, "got '{class_name.__class__}' in"),
    "index": (SOUND.replace("{class_name}", "{class_name[0]}", 1), 7, "got '{class_name[0]}'"),
    "conversion": (SOUND.replace("{class_name}", "{class_name!r}", 1), 7, "got '{class_name!r}' in"),
    "position": (SOUND.replace("{class_name}", "{0}", 1), 7, "got '{0}' in"),
    "bare braces": (SOUND.replace("{class_name}", "{}", 1), 7, "got '{}' in"),
    "escaped braces": (SOUND.replace("{class_name}", "{{class_name}}", 1), 7, "no placeholder but"),
    "unbalanced brace": (SOUND.replace("{class_name}", "{class_name", 1), 7, "got '{' in"),
    "class name in a template": (SOUND.replace("{state}", "{class_name}"), 11, "no placeholder but {state}, got '{class_name}'"),
    "template without state": (SOUND.replace("{state}", "nut"), 11, "expected {state} once, got it 0 times"),
    "template with two states": (SOUND.replace("{state}", "{state} {state}"), 11, "expected {state} once, got it 2 times"),
    "two class names": (SOUND.replace("flawless {", "{class_name} {"), 7, "at most once, got it 2 times"),
    "two articles": (SOUND.replace('"damaged', '"a damaged'), 9, "expected a state without an article, got 'a damaged"),
    "bad default class": (SOUND + 'class_name: "{nut}"\n', 12, "expected a class name without braces"),
    "override of an unknown kind": (SOUND + "overrides:\n  nut:\n    more: [x]\n", 14, "got 'more'"),
    "override that is a list": (SOUND + "overrides:\n  nut: [x]\n", 13, "expected a mapping with any of normal, anomalous"),
    "overrides that are a list": (SOUND + "overrides: [x]\n", 12, "expected a mapping from class names"),
    "override twice": (SOUND + "overrides:\n  pcb1: {normal: [x]}\n  PCB: {normal: [x]}\n", 14, "both 'printed circuit board'"),
    "override both ways": (SOUND + "overrides:\n  nut: {normal: [x], extra_normal: [y]}\n", 13, "got both"),
    "override against its base": (SOUND + 'overrides:\n  nut:\n    extra_anomalous: ["flawless {class_name}"]\n', 14, "one side only"),
    "number as a class": (SOUND + "overrides:\n  01: {normal: [x]}\n", 13, "expected a key that is text, got a whole number"),
    "key twice": (SOUND + "name: other\n", 12, "expected each key once, got 'name' again"),
    "too many sentences": (SOUND.replace("  anomalous", "".join(f'    - "n{i}"\n' for i in range(4096)) + "  anomalous"), 5, "got 4097"),
    "python tag": (
        SOUND.replace("source: me", "source: !!python/object/apply:os.system ['true']"),
        3,
        "got the YAML tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "own tag": (SOUND.replace("source: me", "source: !mine me"), 3, "got the YAML tag '!mine'"),
    "anchor": (SOUND.replace("source: me", "source: &x me"), 3, "YAML anchor or alias 'x'"),
    "alias": (SOUND.replace("source: me", "source: *x"), 3, "YAML anchor or alias 'x'"),
    "deep nesting": (SOUND + "class_name: " + "[" * 5000 + "\n", 12, "at most 8 nested levels"),
    "broken YAML": (SOUND + "class_name: [a, b\n", 13, "flow sequence"),
    "tab": (SOUND + "\tclass_name: x\n", 12, "expected YAML, but"),
    "two documents": (SOUND + "---\nname: x\n", 12, "expected a single document"),
    "control character": (SOUND.replace("source: me", "source: m\x01e"), 3, "U+0001"),
    "escape beyond Unicode": (SOUND.replace("source: me", 'source: "\\UFFFFFFFF"'), 1, "an escape or number in it has no meaning"),
    "half a character": (SOUND.replace("source: me", 'source: "\\uD800"'), 3, "one printable line"),
    "bad UTF-8": (SOUND.encode().replace(b"flawless", b"flawl\xffss"), 7, "expected UTF-8, got the byte 0xFF"),
    "too large": (SOUND + "#" * prompt_files.MAX_BYTES, 1, "at most 128 KiB"),
}


def test_the_sound_example_is_sound(tmp_path: Path) -> None:
    assert check_prompts(write(tmp_path, SOUND)) == []
    assert PromptEnsemble.load(write(tmp_path, b"\xef\xbb\xbf" + SOUND.encode())).sentences("egg")[0] == ("a photo of a flawless egg.",)


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_file_and_line(case: str, tmp_path: Path) -> None:
    text, line, message = FAULTS[case]
    path = write(tmp_path, text)
    problems = check_prompts(path)
    assert len(problems) == 1, problems
    assert problems[0].line == line
    assert problems[0].message.startswith("expected ") and message in problems[0].message
    with pytest.raises(PromptError, match="^" + re.escape(f"{path}:{line}: {problems[0].message}") + "$"):
        PromptEnsemble.load(path)


def test_billion_laughs_stop_at_the_first_anchor(tmp_path: Path) -> None:
    laughs = "a: &a [ha, ha]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    assert [problem.line for problem in check_prompts(write(tmp_path, laughs))] == [1]


def test_check_gives_all_problems_at_once_and_load_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, SOUND.replace("version: 1", "version: x").replace("{state}", "{0}") + "colour: red\n")
    assert [problem.line for problem in check_prompts(path)] == [4, 11, 12]
    with pytest.raises(PromptError, match=r":4: .*\(and 2 more: `vlad prompts check .*mine.yaml` lists them\)$"):
        PromptEnsemble.load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("winklip", "expected one of the prompt sets electronics, .* got 'winklip': did you mean 'winclip'?"),
        ("class_names", "expected one of the prompt sets"),
        ("no/such/file.yaml", "no/such/file.yaml: expected a readable YAML file, got: No such file"),
        ("missing.yml", "No such file"),
        (".\0.yaml", "expected a readable YAML file"),
        (ROOT, "got a folder"),
    ],
)
def test_unknown_names_and_paths(name: str | Path, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        PromptEnsemble.load(name)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, len(SOUND)),
    st.text(max_size=6) | st.sampled_from(["{", "}", "- ", ": ", "[", '"', "'", "!!", "&a ", "*a", "\n", "|", "%"]),
)
def test_no_damage_brings_another_error(position: int, damage: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), (SOUND[:position] + damage + SOUND[position:]).encode("utf-8", "surrogatepass"))
        problems = check_prompts(path)
        assert all(1 <= problem.line <= SOUND.count("\n") + 8 for problem in problems)
        if not problems:
            PromptEnsemble.load(path).sentences("nut")


# Where the data lies


def test_source_tree_and_no_torch() -> None:
    assert prompt_files.data_folder() == ROOT / "prompts"
    code = "import sys, vlad.prompts, vlad.cli.prompts; vlad.prompts.available_prompts(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "False"


def test_installed_layout(tmp_path: Path) -> None:
    package = tmp_path / "vlad"
    (package / "prompts").mkdir(parents=True)
    (package / "untrusted").mkdir()
    parts = ("__init__", "ensemble", "files", "nouns", "schema", "vectors")
    for name in ("errors", "untrusted/__init__", "untrusted/values", *(f"prompts/{part}" for part in parts)):
        shutil.copy(ROOT / "vlad" / f"{name}.py", package / f"{name}.py")
    (package / "__init__.py").touch()
    shutil.copytree(ROOT / "prompts", package / "_prompts")
    decoy = tmp_path / "prompts"  # beside an installed package lie other people's folders
    decoy.mkdir()
    (decoy / "class_names.yaml").write_text("nouns: {}\n")
    code = "from vlad import prompts; print(prompts.data_folder()); print(len(prompts.available_prompts()))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [str(package / "_prompts"), str(len(SHIPPED))]


def test_missing_data_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_files, "__file__", str(tmp_path / "vlad" / "prompts" / "files.py"))
    with pytest.raises(PromptError, match="found neither: install vlad-anomaly again"):
        prompt_files.data_folder()


def test_the_example_in_the_readme_is_sound(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "prompts/README.md").read_text(), re.S)
    assert example is not None
    path = write(tmp_path, example[1])
    assert check_prompts(path) == []
    ensemble = PromptEnsemble.load(path)
    assert [tuple(map(len, ensemble.sentences(name))) for name in ("gear", "ring_gear", "drive shaft")] == [(4, 4), (4, 6), (4, 4)]
    assert "a photo of a ring gear with an oval bore." in ensemble.sentences("ring gear")[1]
    assert "a close-up photo of the bent drive shaft." in ensemble.sentences("drive shaft")[1]


# The command line


def test_cli_list() -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert all(name in result.output for name in SHIPPED)
    assert "154" in result.output and "2303.14814" in result.output


def test_cli_show() -> None:
    result = CliRunner().invoke(app, ["show", "winclip", "--class-name", "pcb1"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert len(lines) == 154 + 88 + 3
    assert lines[0] == "# normal: 154 sentences" and lines[156] == "# anomalous: 88 sentences"
    assert "a photo of the printed circuit board with flaw." in lines[157:]


def test_cli_show_json() -> None:
    result = CliRunner().invoke(app, ["show", "generic", "--class-name", "nut", "--format", "json"])
    data = json.loads(result.stdout)
    ensemble = PromptEnsemble.load("generic")
    assert (tuple(data["normal"]), tuple(data["anomalous"])) == ensemble.sentences()
    assert data["fingerprint"] == ensemble.fingerprint
    assert (data["name"], data["class_name"], data["noun"]) == ("generic", "nut", "nut")


def test_cli_check(tmp_path: Path) -> None:
    path = write(tmp_path, SOUND)
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0
    assert result.stdout == (
        f"{path}: sound; 1 normal and 1 anomalous sentences, such as\n  a photo of a flawless object.\n  a photo of a damaged object.\n"
    )


def test_cli_check_names_every_problem(tmp_path: Path) -> None:
    path = write(tmp_path, SOUND.replace("version: 1", "version: x") + "colour: red\n")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 2
    assert [line.startswith(f"{path}:{number}: expected") for line, number in zip(result.stderr.splitlines(), (4, 12), strict=True)] == [
        True
    ] * 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing"], "expected one of the prompt sets"),
        (["show", "winclip", "--class-name", "{x}"], "without braces"),
        (["check", "missing.yaml"], "No such file"),
        (["show", "winclip", "--format", "xml"], "xml"),
    ],
)
def test_cli_bad_use(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
