"""Named endpoints for programs: each takes everything it needs and remembers nothing. Their docstrings describe them to MCP clients."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from vlad.app import batches, chat, handlers, painting, wording
from vlad.app.service import Service
from vlad.app.uploads import read_upload
from vlad.app.visit import Visit
from vlad.app.widgets import BATCH_QUEUE, MODEL_QUEUE, VLM_QUEUE, guarded, picture_input
from vlad.errors import ConfigError


def build(service: Service) -> None:
    """Endpoints detect, heat_map, detect_batch, find_painted, ask, compare_prompts and describe_model, on components that nobody sees.

    `gr.api` would need none, but it takes file paths as they come, also such as were never uploaded.
    """

    def visited(references: list[str] | None, class_name: str) -> Visit:
        visit = Visit.begin(service)
        if references:
            try:
                handlers.add_references(service, visit, references, class_name)
            except BaseException:
                visit.forget()
                raise
        return visit

    def detect(picture: str | None, class_name: str = "", threshold: float = 0.0, references: list[str] | None = None) -> dict[str, Any]:
        """Say whether a picture shows an anomaly, and where.

        Args:
            picture: the picture to inspect.
            class_name: what it shows, a noun such as "metal nut"; may be empty.
            threshold: a score above it means anomalous; 0 takes the references' threshold, or 0.5.
            references: up to 16 good pictures of the same kind of part to compare with; may be empty.

        Returns:
            Score, threshold, verdict, regions with boxes, partial scores and the model, as JSON.
        """
        return _predict(picture, class_name, threshold, references).to_dict()

    def heat_map(picture: str | None, class_name: str = "", threshold: float = 0.0, references: list[str] | None = None) -> Image.Image:
        """Draw the heat map of a picture, with the verdict and a colour scale below it.

        Args:
            picture: the picture to inspect.
            class_name: what it shows, a noun such as "metal nut"; may be empty.
            threshold: a score above it means anomalous; 0 takes the references' threshold, or 0.5.
            references: up to 16 good pictures of the same kind of part to compare with; may be empty.

        Returns:
            The picture with its heat on an absolute colour scale.
        """
        return _predict(picture, class_name, threshold, references).overlay()

    def _predict(picture: str | None, class_name: str, threshold: float, references: list[str] | None) -> Any:
        visit = visited(references, class_name)
        try:
            prediction = handlers.inspect(service, visit, picture, class_name)
            if not threshold:
                return prediction
            pixel = threshold if visit.detector.memory is None else prediction.mask_threshold or 0.5
            return handlers.adjust(visit, _limit(threshold), pixel)
        finally:
            visit.forget()

    def detect_batch(
        pictures: list[str] | None, class_name: str = "", threshold: float = 0.0, references: list[str] | None = None
    ) -> dict[str, Any]:
        """Inspect many pictures, or zip files of pictures.

        Args:
            pictures: the pictures or archives.
            class_name: what they show, a noun such as "metal nut"; may be empty.
            threshold: a score above it means anomalous; 0 takes the references' threshold, or 0.5.
            references: up to 16 good pictures of the same kind of part to compare with; may be empty.

        Returns:
            A summary, the results sorted by score, and the pictures that could not be read with the reason, as JSON.
        """
        visit = visited(references, class_name)
        try:
            *_, batch = batches.run_batch(service, visit, pictures or [], class_name, threshold=_limit(threshold) if threshold else None)
        finally:
            visit.forget()
        results = [{"picture": row.name} | row.prediction.to_dict() for row in batch.sorted_rows if row.prediction is not None]
        return {
            "summary": batch.summary(),
            "results": results,
            "failed": [{"picture": row.name, "error": row.error} for row in batch.failed],
        }

    def find_painted(clean: str | None, painted: str | None, class_name: str = "") -> dict[str, Any]:
        """Say whether a defect that was painted onto a good picture is found.

        Args:
            clean: the good picture.
            painted: the same picture, of the same size, with a defect painted on it.
            class_name: what it shows, a noun such as "metal nut"; may be empty.

        Returns:
            Whether it was found, the share of the painted pixels that are marked, and the results before and after, as JSON.
        """
        if clean is None or painted is None:
            raise ConfigError("There are not two pictures; give the clean and the painted one.")
        with service.turn():
            pictures = read_upload(clean, service.limits), read_upload(painted, service.limits)
        return painting.look_for_paint(service, service.detector.copy(), *pictures, handlers.checked_class_name(class_name)).to_dict()

    def ask(
        picture: str | None, question: str = "What is wrong?", class_name: str = "", references: list[str] | None = None
    ) -> dict[str, Any]:
        """Answer a question about a picture in words. The verdict is always the detector's.

        Args:
            picture: the picture to ask about.
            question: such as "What is wrong?" or "How bad is it?".
            class_name: what it shows, a noun such as "metal nut"; may be empty.
            references: up to 16 good pictures of the same kind of part to compare with; may be empty.

        Returns:
            The text, the verdict, the defects with their places, and the evidence, as JSON. The text may come from a language model.
        """
        visit = visited(references, class_name)
        try:
            handlers.inspect(service, visit, picture, class_name)
            answer = [piece for piece in chat.ask(service, visit, question) if not isinstance(piece, str)][-1]
            values = answer.to_dict()
            values["evidence"]["reference"] = None  # its path on this server is no business of a client
            return values
        finally:
            visit.forget()

    def compare_prompts(picture: str | None, normal: str, anomalous: str, class_name: str = "") -> dict[str, Any]:
        """Inspect a picture with sentences of your own for normal and for anomalous, beside the shipped ones.

        Args:
            picture: the picture to inspect.
            normal: sentences for a normal picture, one on a line; {class_name} stands for what it shows.
            anomalous: sentences for an anomalous picture, one on a line.
            class_name: what it shows, a noun such as "metal nut"; may be empty.

        Returns:
            The results with the shipped sentences and with yours, and notes about words the model does not know, as JSON.
        """
        if picture is None:
            raise ConfigError("There is no picture; give one.")
        with service.turn():
            pixels = read_upload(picture, service.limits)
        found = wording.compare_words(service, pixels, class_name, normal, anomalous)
        return {"shipped": found.shipped.to_dict(), "own": found.own.to_dict(), "notes": list(found.notes)}

    def describe_model() -> dict[str, Any]:
        """Name the model behind this server and its limits.

        Returns:
            The model, who answers questions, and the limits for uploads, as JSON.
        """
        from dataclasses import asdict

        from vlad import __version__

        who = "describer" if service.vlm is None else service.vlm.name
        return {"model": service.model, "vlad": __version__, "answers": who, "limits": asdict(service.limits)}

    with gr.Column(visible=False):
        picture, second = (picture_input(label=name) for name in ("picture", "second picture"))
        several, references = (gr.File(label=name, file_count="multiple") for name in ("pictures", "references"))
        class_name, question = gr.Textbox("", label="class name"), gr.Textbox("What is wrong?", label="question")
        normal, anomalous = (
            gr.Textbox("\n".join(sentences), label=side)
            for side, sentences in (("normal", wording.NORMAL), ("anomalous", wording.ANOMALOUS))
        )
        threshold = gr.Number(0.0, label="threshold", minimum=0, maximum=1)
        answer, drawing = gr.JSON(label="result"), gr.Image(label="heat map", format="png")
        trigger = gr.Button("run")
    actions: tuple[tuple[Callable[..., Any], list[Any], Any], ...] = (
        (detect, [picture, class_name, threshold, references], answer),
        (heat_map, [picture, class_name, threshold, references], drawing),
        (detect_batch, [several, class_name, threshold, references], answer),
        (find_painted, [picture, second, class_name], answer),
        (ask, [picture, question, class_name, references], answer),
        (compare_prompts, [picture, normal, anomalous, class_name], answer),
        (describe_model, [], answer),
    )
    for action, inputs, output in actions:
        trigger.click(
            guarded(action),
            inputs,
            output,
            api_name=action.__name__,
            concurrency_id=(queue := _queue(service, action)),
            concurrency_limit=2 if queue == BATCH_QUEUE else 1,
        )


def _queue(service: Service, action: Callable[..., Any]) -> str:
    if action.__name__ == "detect_batch":
        return BATCH_QUEUE
    return VLM_QUEUE if service.vlm is not None and action.__name__ == "ask" else MODEL_QUEUE


def _limit(threshold: float) -> float:
    if not 0 <= threshold <= 1:
        raise ConfigError(f"The threshold must lie between 0 and 1, got {threshold:g}.")
    return float(threshold)
