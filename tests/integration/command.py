"""The command line, run inside the test's process."""

from __future__ import annotations

import contextlib
import io
import unittest.mock
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def vlad(*arguments: str | Path) -> Run:
    """The command in this process (importing the model libraries takes longer than everything a test does)."""
    from vlad.cli import main

    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        unittest.mock.patch("sys.argv", ["vlad", *map(str, arguments)]),
    ):
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
    return Run(code, stdout.getvalue(), stderr.getvalue())
