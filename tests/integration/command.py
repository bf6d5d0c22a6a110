"""The command line, run inside the test's process."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import unittest.mock
from pathlib import Path
from typing import Any, NamedTuple


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


def start(*arguments: str | Path, environment: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, where the test is about the process. Ctrl-C ends it even where the tests run in the background,
    whose children would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = [sys.executable, "-m", "vlad", *map(str, arguments)]
        return subprocess.Popen(command, text=True, env=os.environ | (environment or {}), **options)
    finally:
        signal.signal(signal.SIGINT, before)
