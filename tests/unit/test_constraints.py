"""constraints.txt: what is installed today is installed in a year."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
PINS = dict(line.split("==") for line in LINES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = sorted({*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)})


def test_names_and_versions_only():
    """No address, no index, no hash; and nothing that torch pins itself on one platform and other platforms do not have."""
    assert all(re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line) for line in LINES), LINES
    assert sorted(PINS) == list(PINS) and len(PINS) == len(LINES)
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not [name for name in PINS if name.startswith(("nvidia-", "cuda-", "triton", "vlad"))]


@pytest.mark.parametrize("requirement", [Requirement(one) for one in DIRECT], ids=lambda one: one.name)
def test_every_direct_dependency_has_a_pin_that_it_allows(requirement):
    if requirement.name != PROJECT["name"]:
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_commands_of_the_readme_use_it():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2 and all(" -c constraints.txt " in command for command in commands)
