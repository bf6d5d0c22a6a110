"""What of the container can be seen without one: names that exist, packages that belong to the project, rights that are few."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[list[str]]]:
    """Instructions of each stage of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        words = line.split()
        if words[0] == "FROM":
            name = words[-1]
        found.setdefault(name, []).append(words)
    return found


def test_what_is_copied_exists_and_is_not_ignored(stages):
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for words in (words for stage in stages.values() for words in stage if words[0] == "COPY" and not words[1].startswith("--from")):
        for source in words[1:-1]:
            assert (ROOT / source).exists() and any(source == name or source.startswith(f"{name}/") for name in kept), source


def test_what_the_wheel_takes_in_is_there(stages):
    """The build has everything that the project's own build puts into the package."""
    copied = [source for words in stages["build"] if words[0] == "COPY" for source in words[1:-1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for source in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:
        assert any(source == name or source.startswith(f"{name}/") for name in copied), source


def test_it_runs_as_a_user_without_rights(stages):
    run = {words[0]: words[1:] for words in stages["run"]}
    assert run["USER"] == ["10001"] and run["ENTRYPOINT"] == ['["vlad"]'] and "HEALTHCHECK" in run
    assert list(stages)[-1] == "exported", "a plain `docker build` gives the small image"


def test_its_packages_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    known = {*project["project"]["dependencies"], *extras["export"], *extras["serve"]}
    group = project["dependency-groups"]["serve-exported"]
    assert set(group) <= known and not any(name.startswith("torch") for name in group)


def test_compose():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("vlad", "camera"):
        one = services[name]
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and one["tmpfs"] == ["/tmp"] and "./models:/models:ro" in one["volumes"]
    assert services["camera"]["command"][:3] == ["detect", "--watch", "/camera"] and not any(
        "privileged" in one for one in services.values()
    )
