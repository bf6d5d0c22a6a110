"""How the tab Inspect looks: its parts by name, and what may change of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import gradio as gr

from vlad.app import show
from vlad.app.service import Service
from vlad.app.style import PAIR
from vlad.app.widgets import limit_slider, paint_input, picture_input

# Told apart with every kind of colour vision (Okabe and Ito), one for each letter that a place can have.
_BOX_COLOURS = dict(zip("ABCDEFGH", ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#0072b2", "#d55e00", "#999999"), strict=True))

FILES = ("png", "as_json", "raw")
STATE = (
    "visit", "seal", "verdict", "pair", "legend", "boxes", "table", "threshold", "mask_threshold", *FILES, "picture", "class_name",
    "examples", "with_references", "count", "gallery", "where", "where_said",
)  # fmt: skip
LOOK_THERE, NOT_THERE = "Look only where I painted", "Do not look where I painted"
STAYS: Any = object()  # in place of a new value


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of the tab that do something; those of the same name in `Updates` are changed by it."""

    visit: gr.State
    seal: gr.Textbox
    examples: gr.Gallery
    with_references: gr.Checkbox
    picture: gr.Image
    class_name: gr.Textbox
    again: gr.Button
    count: gr.HTML
    gallery: gr.Gallery
    add: gr.UploadButton
    clear: gr.Button
    where: gr.ImageEditor
    where_take: gr.Button
    where_mode: gr.Radio
    where_use: gr.Button
    where_everywhere: gr.Button
    where_said: gr.HTML
    verdict: gr.HTML
    is_good: gr.Button
    is_bad: gr.Button
    pair: gr.ImageSlider
    legend: gr.HTML
    threshold: gr.Slider
    mask_threshold: gr.Slider
    opacity: gr.Slider
    boxes: gr.AnnotatedImage
    table: gr.HTML
    png: gr.DownloadButton
    as_json: gr.DownloadButton
    raw: gr.DownloadButton

    def parts(self, *names: str) -> list[Any]:
        """Components by name, as events take them."""
        return [getattr(self, name) for name in names]


@dataclass(kw_only=True)
class Updates:
    """New values of parts; one that is not given stays as it is."""

    visit: Any = STAYS
    seal: Any = STAYS
    verdict: Any = STAYS
    pair: Any = STAYS
    legend: Any = STAYS
    boxes: Any = STAYS
    table: Any = STAYS
    threshold: Any = STAYS
    mask_threshold: Any = STAYS
    png: Any = STAYS
    as_json: Any = STAYS
    raw: Any = STAYS
    picture: Any = STAYS
    class_name: Any = STAYS
    examples: Any = STAYS
    with_references: Any = STAYS
    count: Any = STAYS
    gallery: Any = STAYS
    where: Any = STAYS
    where_said: Any = STAYS

    def stay(self, *names: str) -> "Updates":
        """These without a new value after all."""
        for name in names:
            setattr(self, name, STAYS)
        return self

    @property
    def is_something(self) -> bool:
        """Whether there is anything new."""
        return any(getattr(self, part.name) is not STAYS for part in fields(self))

    def over(self, whole: "Updates") -> "Updates":
        """These, and what is not among them from the whole."""
        given = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(whole, **{name: value for name, value in given.items() if value is not STAYS})

    def values(self, names: Sequence[str]) -> list[Any]:
        """In the order of an event's outputs, which must have room for all that is new."""
        lost = [part.name for part in fields(self) if part.name not in names and getattr(self, part.name) is not STAYS]
        if lost:
            raise ValueError(f"expected an output for each new value, got none for {', '.join(lost)}; add it to the event")
        return [gr.skip() if getattr(self, name) is STAYS else getattr(self, name) for name in names]


def lay_out(service: Service, visit: gr.State) -> Layout:
    """Make the parts, in the tab that is open."""
    seal = gr.Textbox("", visible="hidden", label="seal", elem_id="inspect-seal")
    with gr.Row(equal_height=False, elem_id="inspect-row"):
        return Layout(visit=visit, seal=seal, **_left(service), **_right())


def _left(service: Service) -> dict[str, Any]:
    """What is inspected, and what it is compared with."""
    with gr.Column(scale=4, min_width=320, elem_id="inspect-left"):
        shown = [(str(example.path), example.caption) for example in service.examples]
        gr.HTML('<h3 class="vlad-label">Click an example</h3>', visible=bool(shown), elem_id="examples-title")
        examples = gr.Gallery(
            shown,
            label="Examples",
            show_label=False,
            columns=4,
            height=248,
            allow_preview=False,
            object_fit="cover",
            buttons=[],
            elem_id="examples",
            visible=bool(shown),
            interactive=False,
        )
        with_references = gr.Checkbox(
            not service.detector.decides_alone,  # else the first thing on the page would be no verdict
            label="Compare examples with four good ones",
            visible=bool(shown),
            elem_id="with-references",
        )
        picture = picture_input(
            label="Or your own picture",
            sources=["upload", "clipboard", "webcam"],
            height=250,
            alt_text="The picture to inspect",
            elem_id="picture",
        )
        with gr.Row():
            class_name = gr.Textbox(
                label="What it shows (optional)", placeholder="a noun, such as metal nut", max_lines=1, scale=3, elem_id="class-name"
            )
            again = gr.Button("Inspect", variant="primary", scale=1, min_width=110, elem_id="inspect")
        with gr.Accordion("Good pictures to compare with (optional)", open=False, elem_id="good"):
            count = gr.HTML(count_of(()), elem_id="reference-count")
            gallery = gr.Gallery(
                label="Good pictures", columns=4, height=150, allow_preview=False, interactive=False, buttons=[], object_fit="cover"
            )
            with gr.Row():
                add = gr.UploadButton("Add good pictures", file_count="multiple", file_types=["image"], size="sm", elem_id="add-references")
                clear = gr.Button("Forget them", size="sm", elem_id="clear-references")
        where = _where(service)
    return {
        "examples": examples,
        "with_references": with_references,
        "picture": picture,
        "class_name": class_name,
        "again": again,
        "count": count,
        "gallery": gallery,
        "add": add,
        "clear": clear,
        **where,
    }


def _where(service: Service) -> dict[str, Any]:
    """Where to look, painted on a picture."""
    with gr.Accordion("Where to look (optional)", open=False, elem_id="where"):
        said = gr.HTML(looking(only=False, but=False), elem_id="where-said")
        editor = paint_input(
            None,
            pixels=service.limits.pixels,
            sources=["upload"],
            transforms=(),
            format="png",
            layers=False,
            brush=gr.Brush(default_size=40, colors=["#22d3ee"], default_color="#22d3ee", color_mode="fixed"),
            eraser=gr.Eraser(default_size=40),
            height=340,
            label="Paint over it",
            buttons=[],
            elem_id="where-editor",
        )
        take = gr.Button("Paint on this picture", size="sm", elem_id="where-take")
        mode = gr.Radio([LOOK_THERE, NOT_THERE], value=LOOK_THERE, show_label=False, elem_id="where-mode")
        with gr.Row():
            use = gr.Button("Use it", size="sm", variant="primary", elem_id="where-use")
            everywhere = gr.Button("Look everywhere", size="sm", elem_id="where-everywhere")
    return {
        "where": editor,
        "where_take": take,
        "where_mode": mode,
        "where_use": use,
        "where_everywhere": everywhere,
        "where_said": said,
    }


def _right() -> dict[str, Any]:
    """What was found."""
    with gr.Column(scale=6, min_width=320, elem_id="inspect-right"):
        verdict = gr.HTML(nothing_yet(), elem_id="verdict")
        with gr.Row(elem_id="limits"):
            threshold = limit_slider(step=0.001, label="Threshold", min_width=150, elem_id="threshold")
            mask_threshold = limit_slider(step=0.001, label="Map threshold", min_width=150, elem_id="map-threshold")
            opacity = limit_slider(step=0.05, label="Opacity", min_width=150, elem_id="opacity")
        pair = gr.ImageSlider(
            label="Picture | heat map: drag the line",
            height=PAIR,
            max_height=PAIR,
            type="numpy",
            interactive=False,
            slider_position=15,
            buttons=["fullscreen"],
            elem_id="pair",
        )
        legend = gr.HTML(show.legend(0.5), elem_id="pair-legend")
        with gr.Row():
            is_good = gr.Button("It is good: remember it", size="sm", elem_id="is-good")
            is_bad = gr.Button("It is bad: find its like", size="sm", elem_id="is-bad")
        table = gr.HTML(elem_id="places")
        with gr.Accordion("The places on the picture", open=False, elem_id="places-drawn"):
            boxes = gr.AnnotatedImage(label="Marked places", height=300, color_map=_BOX_COLOURS, buttons=["fullscreen"], elem_id="boxes")
        with gr.Row():
            png = gr.DownloadButton("Heat map (PNG)", size="sm", min_width=90, interactive=False, elem_id="download-png")
            as_json = gr.DownloadButton("Result (JSON)", size="sm", min_width=90, interactive=False, elem_id="download-json")
            raw = gr.DownloadButton("Raw map (TIFF)", size="sm", min_width=90, interactive=False, elem_id="download-map")
    return {
        "verdict": verdict,
        "is_good": is_good,
        "is_bad": is_bad,
        "pair": pair,
        "legend": legend,
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "opacity": opacity,
        "boxes": boxes,
        "table": table,
        "png": png,
        "as_json": as_json,
        "raw": raw,
    }


def count_of(names: tuple[str, ...], *, borrowed: bool = False) -> str:
    """How many good pictures there are, in words."""
    if not names:
        return '<p class="vlad-quiet">None. One to sixteen pictures of good parts give a better map and a threshold of their own.</p>'
    whose = "that come with the example" if borrowed else "of yours, seen by nobody but you"
    return f'<p class="vlad-quiet"><b>{len(names)}</b> good picture{"s" if len(names) > 1 else ""} {whose}.</p>'


def looking(*, only: bool, but: bool) -> str:
    """What is looked at, in words."""
    if only or but:
        mode = LOOK_THERE if only else NOT_THERE
        return f'<p class="vlad-note"><b>{mode}</b>: the rest has no influence on any score, here and in Batch.</p>'
    return '<p class="vlad-quiet">Everywhere. Paint over what counts, or over what does not: a fixture, a label, a reflection.</p>'


def nothing_yet() -> str:
    """The verdict's place before there is one."""
    return show.waiting_card("No picture yet", "Click an example, or drop a picture of your own.")
