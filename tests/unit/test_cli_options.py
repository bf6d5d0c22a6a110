"""Options that several commands share."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Annotated

import typer
from typer.testing import CliRunner

from vlad.cli import options
from vlad.cli.ask import ask
from vlad.cli.detect import detect
from vlad.cli.fit import fit
from vlad.config import DetectorConfig
from vlad.scoring.methods import NAMES


def test_zero_is_a_value_and_what_was_not_given_is_none():
    given = options.DetectorOptions(threshold=0.0, rarity=0.0, scorer="nearest", model="lite", dtype="float32")
    assert given.settings == {"threshold": 0.0, "rarity": 0.0, "scorer": "nearest"}
    assert options.DetectorOptions().settings == {}


def test_each_setting_is_one_of_the_detectors():
    known = {field.name for field in fields(DetectorConfig)}
    names = {field.name for field in fields(options.DetectorOptions)} - {"model", "prompts", "device", "dtype"}
    assert names - known <= {
        "max_pixels",
        "patch_backbone",
        "resolution",
        "layers",
        "merge",
        "norm",
        "adapt_to",
    }  # --adapt is of the threshold


def test_detect_fit_and_ask_share_their_options():
    shared = [field.name for field in fields(options.DetectorOptions)]
    for command in (detect, fit, ask):
        names = list(inspect.signature(command).parameters)
        start = names.index(shared[0])
        assert names[start : start + len(shared)] == shared


def test_a_command_gets_its_shared_options_as_one():
    app, seen = typer.Typer(rich_markup_mode=None), []

    @app.command()
    @options.spread
    def show(
        path: Annotated[str, typer.Argument()], *, made_of: options.DetectorOptions, loud: Annotated[bool, typer.Option()] = False
    ) -> None:
        seen.append((path, made_of, loud))

    run = CliRunner().invoke(app, ["here", "--threshold", "0", "--loud", "--scorer", "subspace", "--foreground"])
    assert run.exit_code == 0, run.output
    made_of = options.DetectorOptions(threshold=0.0, scorer="subspace", foreground=True)
    assert seen == [("here", made_of, True)] and made_of.settings["foreground"] is True
    assert CliRunner().invoke(app, ["here", "--threshold", "2"]).exit_code == 2
    run = CliRunner().invoke(app, ["here", "--scorer", "neatest"])
    assert run.exit_code == 2 and f"'neatest' is not one of {', '.join(map(repr, NAMES))}" in run.output.replace("\n", " ")
