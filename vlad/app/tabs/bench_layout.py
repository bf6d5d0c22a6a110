"""How the bench looks: its five steps, and its parts by name."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from vlad.app import show
from vlad.app.bench import view
from vlad.app.bench.learning import RULES
from vlad.app.bench.state import FILTERS
from vlad.app.service import Service
from vlad.app.tabs.inspect_layout import LOOK_THERE, NOT_THERE
from vlad.app.widgets import limit_slider, paint_input

STEPS = ("1 Part", "2 Good pictures", "3 Look and correct", "4 Threshold", "5 Keep")
TALL = 350  # of the gallery of what was found, in pixels


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of the bench that do something."""

    visit: gr.State
    seal: gr.Number
    large: gr.Textbox
    head: gr.HTML
    parts: gr.Dropdown
    name: gr.Textbox
    noun: gr.Textbox
    make: gr.Button
    cards: gr.HTML
    good_files: gr.File
    good_said: gr.HTML
    good: gr.Gallery
    leave: gr.Button
    where: gr.ImageEditor
    where_take: gr.Button
    where_mode: gr.Radio
    where_use: gr.Button
    where_everywhere: gr.Button
    files: gr.File
    look: gr.Button
    again: gr.Button
    stop: gr.Button
    summary: gr.HTML
    only: gr.Radio
    gallery: gr.Gallery
    verdict: gr.HTML
    pair: gr.ImageSlider
    is_good: gr.Button
    is_bad: gr.Button
    unmark: gr.Button
    take: gr.Button
    all_good: gr.Button
    all_bad: gr.Button
    learn: gr.Button
    rule: gr.Dropdown
    follow: gr.Button
    threshold: gr.Slider
    keep: gr.Button
    found: gr.HTML
    rates: gr.HTML
    near: gr.Gallery
    pack: gr.Button
    export: gr.DownloadButton
    usage: gr.HTML
    acts: gr.HTML
    undo: gr.Button

    def named(self, *names: str) -> list[Any]:
        """Components by name, as events take them."""
        return [getattr(self, name) for name in names]


def lay_out(service: Service, visit: gr.State) -> Layout:
    """Make the parts, in the tab that is open."""
    head = gr.HTML('<section class="vlad-bench"></section>', elem_id="bench-head")
    seal = gr.Number(0, visible="hidden", label="seal", elem_id="bench-seal")
    large = gr.Textbox("", visible="hidden", label="large", elem_id="bench-large")
    with gr.Tabs(overflow_behavior="wrap", elem_id="bench-steps"):
        with gr.Tab(STEPS[0], id="part"):
            of_part = _part()
        with gr.Tab(STEPS[1], id="good"):
            of_good = _good(service)
        with gr.Tab(STEPS[2], id="look"):
            of_look = _look(service)
        with gr.Tab(STEPS[3], id="threshold"):
            of_threshold = _threshold()
        with gr.Tab(STEPS[4], id="keep"):
            of_keep = _keep()
    return Layout(visit=visit, seal=seal, large=large, head=head, **of_part, **of_good, **of_look, **of_threshold, **of_keep)


def _part() -> dict[str, Any]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            parts = gr.Dropdown([], value=None, label="Go on with a part", elem_id="bench-parts", filterable=True)
            gr.HTML('<h3 class="vlad-label">Or make one</h3>')
            name = gr.Textbox(label="Its name", placeholder="metal nut M8, line 2", max_lines=1, elem_id="bench-name")
            noun = gr.Textbox(label="What it shows (optional)", placeholder="a noun, such as metal nut", max_lines=1, elem_id="bench-noun")
            make = gr.Button("Make this part", variant="primary", elem_id="bench-make")
        with gr.Column(scale=6, min_width=300):
            cards = gr.HTML(elem_id="bench-cards")
    return {"parts": parts, "name": name, "noun": noun, "make": make, "cards": cards}


def _good(service: Service) -> dict[str, Any]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            files = gr.File(
                label=f"Drop pictures of good parts, {service.limits.references} at most",
                file_count="multiple",
                file_types=["image"],
                height=150,
                elem_id="bench-good-files",
            )
            said = gr.HTML(view.good_ones(None, most=service.limits.references), elem_id="bench-good-said")
            with gr.Accordion("Where to look (optional)", open=False, elem_id="bench-where"):
                editor = paint_input(
                    None,
                    pixels=service.limits.pixels,
                    sources=["upload"],
                    transforms=(),
                    format="png",
                    layers=False,
                    brush=gr.Brush(default_size=40, colors=["#22d3ee"], default_color="#22d3ee", color_mode="fixed"),
                    eraser=gr.Eraser(default_size=40),
                    height=320,
                    label="Paint over it",
                    buttons=[],
                    elem_id="bench-where-editor",
                )
                take = gr.Button("Paint on a good picture", size="sm", elem_id="bench-where-take")
                mode = gr.Radio([LOOK_THERE, NOT_THERE], value=LOOK_THERE, show_label=False, elem_id="bench-where-mode")
                with gr.Row():
                    use = gr.Button("Use it", size="sm", variant="primary", elem_id="bench-where-use")
                    everywhere = gr.Button("Look everywhere", size="sm", elem_id="bench-where-everywhere")
        with gr.Column(scale=6, min_width=300):
            good = gr.Gallery(
                label="Good pictures",
                show_label=False,
                columns=6,
                height=360,
                allow_preview=False,
                interactive=False,
                buttons=[],
                object_fit="cover",
                elem_id="bench-good",
                elem_classes="vlad-grid",
            )
            leave = gr.Button("Leave one out", size="sm", interactive=False, elem_id="bench-leave")
    return {
        "good_files": files,
        "good_said": said,
        "good": good,
        "leave": leave,
        "where": editor,
        "where_take": take,
        "where_mode": mode,
        "where_use": use,
        "where_everywhere": everywhere,
    }


def _look(service: Service) -> dict[str, Any]:
    with gr.Row(equal_height=False, elem_id="bench-look-row"):
        with gr.Column(scale=3, min_width=250):
            files = gr.File(
                label=f"One picture or up to {service.limits.pictures}, or a zip file",
                file_count="multiple",
                file_types=["image", ".zip"],
                height=140,
                elem_id="bench-files",
            )
            with gr.Row():
                look = gr.Button("Look", variant="primary", size="md", min_width=60, elem_id="bench-look")
                again = gr.Button("Look again", size="md", min_width=90, elem_id="bench-again")
                stop = gr.Button("Stop", size="md", min_width=50, elem_id="bench-stop")
            summary = gr.HTML(view.summary(None), elem_id="bench-summary")
            learn = gr.Button("Learn from corrections", variant="primary", interactive=False, elem_id="bench-learn")
        with gr.Column(scale=4, min_width=280):
            only = gr.Radio(list(FILTERS), value=FILTERS[0], show_label=False, label="Show", container=False, elem_id="bench-only")
            gallery = gr.Gallery(
                label="Most anomalous first",
                show_label=False,
                columns=3,
                height=TALL,
                allow_preview=False,
                interactive=False,
                buttons=[],
                object_fit="contain",
                elem_id="bench-gallery",
                elem_classes="vlad-grid",
            )
            with gr.Row():
                all_good = gr.Button("All of these are good", size="sm", min_width=100, elem_id="bench-all-good")
                all_bad = gr.Button("All of these are bad", size="sm", min_width=100, elem_id="bench-all-bad")
        with gr.Column(scale=5, min_width=300):
            with gr.Row():  # above what changes its height
                is_good = gr.Button("It is good", size="sm", min_width=64, elem_id="bench-is-good")
                is_bad = gr.Button("It is bad", size="sm", min_width=64, elem_id="bench-is-bad")
                unmark = gr.Button("Take that back", size="sm", min_width=84, elem_id="bench-unmark")
                take = gr.Button("To Inspect", size="sm", min_width=70, elem_id="bench-take")
            verdict = gr.HTML(show.waiting_card("No picture yet", "Look at some, then click one."), elem_id="bench-verdict")
            pair = gr.ImageSlider(
                label="Picture | heat map: drag the line",
                height=236,
                max_height=236,
                type="numpy",
                interactive=False,
                slider_position=15,
                buttons=["fullscreen"],
                elem_id="bench-pair",
            )
    return {
        "files": files,
        "look": look,
        "again": again,
        "stop": stop,
        "summary": summary,
        "learn": learn,
        "only": only,
        "gallery": gallery,
        "all_good": all_good,
        "all_bad": all_bad,
        "verdict": verdict,
        "is_good": is_good,
        "is_bad": is_bad,
        "unmark": unmark,
        "take": take,
        "pair": pair,
    }


def _threshold() -> dict[str, Any]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            threshold = limit_slider(step=0.0001, label="Move the threshold", elem_id="bench-threshold")
            keep = gr.Button("Keep this threshold", variant="primary", elem_id="bench-keep")
            rule = gr.Dropdown(list(RULES), value=next(iter(RULES)), label="Or let it follow from what is labelled", elem_id="bench-rule")
            follow = gr.Button("Follow this rule", elem_id="bench-follow")
            rates = gr.HTML(elem_id="bench-rates")
        with gr.Column(scale=6, min_width=300):
            found = gr.HTML(elem_id="bench-found")
            gr.HTML('<p class="vlad-quiet">Nearest to the threshold, the highest score first:</p>')
            near = gr.Gallery(
                label="Nearest to the threshold",
                show_label=False,
                columns=6,
                height=128,
                allow_preview=False,
                interactive=False,
                buttons=[],
                object_fit="contain",
                elem_id="bench-near",
                elem_classes="vlad-grid",
            )
    return {"threshold": threshold, "keep": keep, "rule": rule, "follow": follow, "found": found, "rates": rates, "near": near}


def _keep() -> dict[str, Any]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            pack = gr.Button("Pack it", variant="primary", elem_id="bench-pack")
            export = gr.DownloadButton("Download the folder (ZIP)", interactive=False, elem_id="bench-export")
            gr.HTML('<h3 class="vlad-label">On the command line</h3>')
            usage = gr.HTML(elem_id="bench-usage")
        with gr.Column(scale=6, min_width=300):
            gr.HTML('<h3 class="vlad-label">What was done</h3>')
            acts = gr.HTML(elem_id="bench-acts")
            undo = gr.Button("Take the last change back", size="sm", elem_id="bench-undo")
    return {"pack": pack, "export": export, "usage": usage, "acts": acts, "undo": undo}
