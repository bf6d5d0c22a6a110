"""README and docs/: Python blocks run, command lines are those of today's command line, and the site builds."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from waiting import LIMIT

import vlad
from vlad.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run:(.*?)-->\s*\Z", re.DOTALL)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=\S*")


@dataclass(frozen=True)
class Block:
    """A fenced block, the number of its first line, and why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = _NOT_RUN.search(text[: match.start()])
        found.append(Block(match[1], match[2], text[: match.start()].count("\n") + 2, None if mark is None else mark[1].strip()))
    return found


def command_lines() -> list[tuple[str, list[str]]]:
    """Where it stands, and the words behind `vlad`."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language not in ("", "sh"):
                continue
            for number, line in enumerate(block.text.splitlines(), block.line):
                words = shlex.split(re.sub(r"\s#.*", "", line)) if "vlad" in line.split() else []
                found += [(f"{page.name}:{number}: vlad {' '.join(command)}", command) for command in _commands(words)]
    return found


def _commands(words: list[str]) -> list[list[str]]:
    """The words behind each `vlad` that is a command, up to the shell's next sign."""
    found: list[list[str]] = []
    is_first, current = True, None
    for word in words:
        if word in ("&&", "|", ">", ">>"):
            is_first, current = word in ("&&", "|"), None
        elif current is not None:
            current.append(word)
        elif is_first and not _VARIABLE.fullmatch(word):
            is_first = False
            if word == "vlad":
                current = []
                found.append(current)
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder with what the blocks name: pictures of one line of washers, and the examples that ship."""
    from PIL import Image

    from vlad.synthetic import ProductLine

    folder, line = tmp_path_factory.mktemp("docs"), ProductLine("washer", 3, 256)

    def write(name: str, number: int, defect: str | None = None) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(line.sample(number, defect).image).save(folder / name)

    for number in range(4):
        write(f"ok_{number + 1}.png", number)
        write(f"good_parts/{number}.png", number)
    for number in range(8):
        for name in ("new_parts", "parts_of_one_product", "unsorted"):
            write(f"{name}/{number}.png", 10 + number, "scratch" if number == 3 else None)
    for number in range(3):
        write(f"labelled/good/{number}.png", 30 + number)
        write(f"labelled/bad/{number}.png", 40 + number, "scratch")
    write("part.png", 50, "scratch")
    shutil.copytree(ROOT / "demos" / "examples", folder / "demos" / "examples")
    return folder


def _printed(line: str, expected: str) -> bool:
    """Whether a comment behind `print(...)` says what was printed; more may follow a colon."""
    return expected == line or expected.startswith(f"{line}: ")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language == "python" for block in blocks(page))], ids=lambda page: page.stem
)
def test_python_blocks_run(page, pictures, monkeypatch):
    """In order and in one namespace; what is printed is what a comment behind it says where pictures that ship are looked at."""
    monkeypatch.chdir(pictures)
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        if block.reason is not None:
            assert block.reason, f"{page.name}:{block.line}: say why the block is not run"
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if page.name == "README.md" or "demos/examples" in block.text or "print(auroc" in block.text:
            expected = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
            shown = printed.getvalue().splitlines()
            assert len(shown) == len(expected) and all(map(_printed, shown, expected)), (page.name, block.line, shown)


@pytest.mark.parametrize("words", [pytest.param(words, id=where) for where, words in command_lines()])
def test_command_lines_are_those_of_today(words):
    """Parsed as far as the options of the last command, and not run."""
    command: Any = typer.main.get_command(app)
    context, name, rest = None, "vlad", list(words)
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)


def test_a_renamed_option_would_be_found():
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        test_command_lines_are_those_of_today(["detect", "part.png", "--refs", "good_parts/"])
    with pytest.raises(Exception, match=r"[Nn]o such command"):
        test_command_lines_are_those_of_today(["judge", "part.png"])
    assert _commands(shlex.split('A=1 vlad fit "good parts" && vlad demo | tail > vlad')) == [["fit", "good parts"], ["demo"]]
    assert len(command_lines()) > 80


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^  - .*: (\w+\.md)$", text.partition("\nnav:")[2], re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in PAGES[1:])
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", _FENCE.sub("", page.read_text(encoding="utf-8"))):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 9000


def test_the_site_builds(tmp_path):
    for name in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python"):
        pytest.importorskip(name, reason="the site needs the extra vlad-anomaly[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT, check=False, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    site = tmp_path / "site"
    assert all((site / f"{page.stem}.html").is_file() for page in PAGES[1:])
    assert (site / "files/eval/results/few_shot.html").is_file() and (site / "files/demos/overlays.jpg").is_file()
    for page in site.rglob("*.html"):  # nothing is loaded from elsewhere
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe)[^>]*src="(https?:)?//', text)
        assert not re.search(r'<link[^>]*stylesheet[^>]*href="(https?:)?//', text)
    api = (site / "api.html").read_text(encoding="utf-8")
    public = [name for name in vlad.__all__ if not name.startswith("_")]
    for name in [*public, "DriftMonitor", "OutlierFlag", "ExportedDetector", "auroc", "aupro"]:
        assert re.search(rf'id="vlad\.[\w.]*{name}"', api), name
