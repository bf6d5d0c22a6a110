"""Inspect: one picture, a verdict in words, the heat map, and a threshold that can be moved."""

import time
from html import escape
from typing import Any

import gradio as gr

from vlad.app import handlers, show
from vlad.app.service import Service
from vlad.app.style import HEIGHT
from vlad.app.visit import Visit
from vlad.app.widgets import MODEL_QUEUE, guarded, limit_slider, picture_input, say
from vlad.errors import ConfigError

# Told apart with every kind of colour vision (Okabe and Ito), one for each letter that a place can have.
_BOX_COLOURS = dict(zip("ABCDEFGH", ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#0072b2", "#d55e00", "#999999"), strict=True))

_ECHO = 3.0  # seconds in which the browser may still send the picture that was just taken away


def build(service: Service, visit: gr.State) -> list[Any]:
    """The tab's components and events; returns what to run when the page opens: function, inputs and outputs."""
    with gr.Row(equal_height=False, elem_id="inspect-row"):
        with gr.Column(scale=4, min_width=320, elem_id="inspect-left"):
            shown = [(str(example.path), example.caption) for example in service.examples]
            gr.HTML('<h3 class="vlad-label">Click an example</h3>', visible=bool(shown), elem_id="examples-title")
            examples = gr.Gallery(
                shown,
                label="Examples",
                show_label=False,
                columns=4,
                height=252,
                allow_preview=False,
                object_fit="cover",
                buttons=[],
                elem_id="examples",
                visible=bool(shown),
                interactive=False,
            )
            with_references = gr.Checkbox(
                False,
                label="Compare examples with four good ones",
                visible=bool(shown),
                elem_id="with-references",
            )
            picture = picture_input(
                label="Or your own picture",
                sources=["upload", "clipboard", "webcam"],
                height=300,
                alt_text="The picture to inspect",
                elem_id="picture",
            )
            with gr.Row():
                class_name = gr.Textbox(
                    label="What it shows (optional)", placeholder="a noun, such as metal nut", max_lines=1, scale=3, elem_id="class-name"
                )
                again = gr.Button("Inspect", variant="primary", scale=1, min_width=110, elem_id="inspect")
            with gr.Accordion("Good pictures to compare with (optional)", open=False, elem_id="good"):
                count = gr.HTML(_count(()), elem_id="reference-count")
                gallery = gr.Gallery(
                    label="Good pictures", columns=4, height=150, allow_preview=False, interactive=False, buttons=[], object_fit="cover"
                )
                with gr.Row():
                    add = gr.UploadButton(
                        "Add good pictures", file_count="multiple", file_types=["image"], size="sm", elem_id="add-references"
                    )
                    clear = gr.Button("Forget them", size="sm", elem_id="clear-references")
        with gr.Column(scale=6, min_width=320, elem_id="inspect-right"):
            verdict = gr.HTML(_nothing_yet(), elem_id="verdict")
            pair = gr.ImageSlider(
                label="Picture | heat map: drag the line",
                height=HEIGHT,
                max_height=HEIGHT,
                type="numpy",
                interactive=False,
                slider_position=15,
                buttons=["fullscreen"],
                elem_id="pair",
            )
            legend = gr.HTML(show.legend(0.5), elem_id="pair-legend")
            with gr.Row():
                threshold = limit_slider(step=0.001, label="Threshold", min_width=150, elem_id="threshold")
                mask_threshold = limit_slider(step=0.001, label="Map", min_width=150, elem_id="map-threshold")
                opacity = limit_slider(step=0.05, label="Opacity", min_width=150, elem_id="opacity")
            with gr.Accordion("Marked places", open=True):
                boxes = gr.AnnotatedImage(
                    label="Marked places", height=300, color_map=_BOX_COLOURS, buttons=["fullscreen"], elem_id="boxes"
                )
                table = gr.HTML(elem_id="places")
            with gr.Row():
                png = gr.DownloadButton("Heat map (PNG)", size="sm", min_width=120, interactive=False, elem_id="download-png")
                as_json = gr.DownloadButton("Result (JSON)", size="sm", min_width=120, interactive=False, elem_id="download-json")
                raw = gr.DownloadButton("Raw map (TIFF)", size="sm", min_width=120, interactive=False, elem_id="download-map")

    drawn = [pair, legend, boxes, table]
    results = [visit, verdict, *drawn, threshold, mask_threshold, png, as_json, raw]

    def inspect(current: Visit | None, path: str | None, noun: str, strength: float) -> list[Any]:
        current = current or Visit.begin(service)
        number = current.example
        if current.borrowed and number is None:
            handlers.clear_references(service, current)
        handlers.inspect(service, current, path, noun)
        current.example = number  # the same picture, looked at again
        return [*_present(current, strength), *_good(current)]

    def arrived(current: Visit | None, path: str | None, noun: str, strength: float) -> list[Any]:
        """A picture of the visitor's own. Taking one away says so too, sometimes still with the old path."""
        if path is None or (current and current.dropped and current.dropped[0] == path and time.monotonic() < current.dropped[1] + _ECHO):
            return [*forget_picture(current, path), *[gr.skip()] * 2]
        if current is not None:
            if current.borrowed:
                gr.Info("The example's good pictures were put away.", duration=6)
            current.example = None
        return inspect(current, path, noun, strength)

    def example(current: Visit | None, beside: bool, strength: float, event: gr.SelectData) -> list[Any]:
        return load(current, beside, strength, int(event.index))

    def load(current: Visit | None, beside: bool, strength: float, number: int = 0) -> list[Any]:
        if not 0 <= number < len(service.examples):
            raise ConfigError("There is no such example.")
        chosen = service.examples[number]
        current = current or Visit.begin(service)
        if current.references and not current.borrowed:
            gr.Info(f"Your {len(current.references)} good pictures were put away; add them again for your own parts.", duration=8)
        handlers.inspect_example(service, current, chosen, with_references=beside)
        current.example = number
        return [*_present(current, strength), str(chosen.path), chosen.class_name, gr.Gallery(selected_index=None), *_good(current)]

    def first(current: Visit | None, strength: float) -> list[Any]:
        return load(current, False, strength)

    def again_beside(current: Visit | None, beside: bool, strength: float) -> list[Any]:
        if current is None or current.example is None:
            return [current, *[gr.skip()] * (len(loaded) - 1)]
        return load(current, beside, strength, current.example)

    def adjust(current: Visit | None, score_limit: float, map_limit: float, strength: float, *, moved_score: bool) -> list[Any]:
        if current is None or current.prediction is None:
            raise ConfigError("There is no picture here, or the page was idle for so long that it was deleted; inspect one.")
        if moved_score and current.detector.memory is None:  # words alone: one scale for score and map
            map_limit = score_limit
        handlers.adjust(current, score_limit, map_limit)
        values = _present(current, strength, files=False)
        values[6] = gr.skip()  # the slider in the visitor's hand
        if not moved_score:
            values[7] = gr.skip()
        return values

    def adjust_score(current: Visit | None, score_limit: float, map_limit: float, strength: float) -> list[Any]:
        return adjust(current, score_limit, map_limit, strength, moved_score=True)

    def adjust_map(current: Visit | None, score_limit: float, map_limit: float, strength: float) -> list[Any]:
        return adjust(current, score_limit, map_limit, strength, moved_score=False)

    def renew_files(current: Visit | None) -> list[Any]:
        return [gr.skip()] * 3 if current is None or current.prediction is None else _files(current)

    def fade(current: Visit | None, strength: float) -> Any:
        if current is None or current.picture is None or current.prediction is None:
            return gr.skip()
        return show.heat_pair(current.prediction, current.picture, strength)

    def add_references(current: Visit | None, paths: list[str] | None, path: str | None, noun: str, strength: float) -> list[Any]:
        current = current or Visit.begin(service)
        told = handlers.add_references(service, current, paths or [], noun)
        for reason in told.refused[:3]:
            gr.Warning(f"Left out: {escape(reason, quote=False)}", duration=10)
        say(list(told.notes))
        if path is None:
            return [current, *[gr.skip()] * 10, *_good(current)]
        handlers.inspect(service, current, path, noun)
        return [*_present(current, strength), *_good(current)]

    def clear_references(current: Visit | None, path: str | None, noun: str, strength: float) -> list[Any]:
        current = current or Visit.begin(service)
        handlers.clear_references(service, current)
        if path is None:
            return [current, *[gr.skip()] * 10, *_good(current)]
        handlers.inspect(service, current, path, noun)
        return [*_present(current, strength), *_good(current)]

    def forget_picture(current: Visit | None, path: str | None = None) -> list[Any]:
        if current is not None:
            current.picture = current.prediction = current.conversation = current.example = None
            current.dropped = (path, time.monotonic()) if path else current.dropped
        off = gr.DownloadButton(interactive=False)
        return [current, _nothing_yet(), None, show.legend(0.5), None, "", gr.skip(), gr.skip(), off, off, off]

    alone: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, "api_visibility": "private"}
    quick: dict[str, Any] = {
        "concurrency_limit": None,
        "api_visibility": "private",
        "show_progress": "hidden",
        "trigger_mode": "always_last",
    }
    waiting: dict[str, Any] = {"show_progress_on": [verdict, pair], **alone}
    of_picture = [visit, picture, class_name, opacity]
    loaded = [*results, picture, class_name, examples, count, gallery]
    filled = [*results, count, gallery]
    picture.input(guarded(arrived), of_picture, filled, scroll_to_output=True, **waiting)
    again.click(guarded(inspect), of_picture, filled, scroll_to_output=True, **waiting)
    class_name.submit(guarded(inspect), of_picture, filled, **waiting)
    picture.clear(guarded(forget_picture), [visit, picture], results, **quick)
    examples.select(
        guarded(example), [visit, with_references, opacity], loaded, scroll_to_output=True, trigger_mode="always_last", **waiting
    )
    with_references.input(guarded(again_beside), [visit, with_references, opacity], loaded, **waiting)
    add.upload(guarded(add_references), [visit, add, picture, class_name, opacity], filled, show_progress_on=[count, verdict], **alone)
    clear.click(guarded(clear_references), of_picture, filled, show_progress_on=[verdict], **alone)
    limits = [visit, threshold, mask_threshold, opacity]
    files = {"concurrency_limit": 2, "api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
    for slider, action in ((threshold, adjust_score), (mask_threshold, adjust_map)):  # files take their time with a large picture
        slider.input(guarded(action), limits, results, **quick).then(guarded(renew_files), [visit], [png, as_json, raw], **files)
    opacity.input(guarded(fade), [visit, opacity], [pair], **quick)
    return [guarded(first), [visit, opacity], loaded, {**waiting, "show_progress": "minimal"}] if shown else []


def _present(visit: Visit, opacity: float, *, files: bool = True) -> list[Any]:
    prediction, picture = visit.prediction, visit.picture
    assert prediction is not None and picture is not None  # a caller has just inspected it
    places, left_out = handlers.places_of(prediction)
    middle = 0.5 if prediction.mask_threshold is None else prediction.mask_threshold
    return [
        visit,
        show.verdict_card(prediction, note=_advice(visit)),
        show.heat_pair(prediction, picture, opacity),
        show.legend(middle),
        show.boxes_of(picture, places),
        show.place_table(places, left_out),
        0.5 if prediction.threshold is None else round(prediction.threshold, 4),
        round(middle, 4),
        *(_files(visit) if files else [gr.skip()] * 3),
    ]


def _files(visit: Visit) -> list[Any]:
    written = handlers.write_files(visit)
    return [gr.DownloadButton(value=str(written[kind]), interactive=True) for kind in ("overlay", "json", "map")]


def _good(visit: Visit) -> list[Any]:
    """How many good pictures there are, and what they look like."""
    return [_count(visit.references, borrowed=visit.borrowed), list(visit.thumbnails) or None]


def _advice(visit: Visit) -> str:
    """The next thing to know about this verdict."""
    if visit.detector.memory is None:
        return "Words alone. A few good pictures of the same part make this verdict much better."
    return f"Compared with {len(visit.detector.references)} good pictures."


def _count(names: tuple[str, ...], *, borrowed: bool = False) -> str:
    if not names:
        return '<p class="vlad-quiet">None. One to sixteen pictures of good parts give a better map and a threshold of their own.</p>'
    whose = "that come with the example" if borrowed else "of yours, seen by nobody but you"
    return f'<p class="vlad-quiet"><b>{len(names)}</b> good picture{"s" if len(names) > 1 else ""} {whose}.</p>'


def _nothing_yet() -> str:
    return show.waiting_card("No picture yet", "Click an example, or drop a picture of your own.")
