"""Named endpoints for programs: plain functions of the service that take everything they need and remember nothing, and the table of them.

A function's docstring and signature describe it to clients, MCP's among them; each parameter after the service is a component of
`vlad.app.endpoints`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from vlad import __version__
from vlad.app import chat, handlers, painting, wording
from vlad.app.names import checked_class_name
from vlad.app.runs import run_batch
from vlad.app.service import BATCH_QUEUE, MODEL_QUEUE, VLM_QUEUE, Service, without_address
from vlad.app.uploads import read_upload
from vlad.app.visit import Visit
from vlad.errors import ConfigError
from vlad.prediction import Prediction


def detect(
    service: Service, picture: str | None, class_name: str = "", threshold: float | None = None, references: list[str] | None = None
) -> dict[str, Any]:
    """Say whether a picture shows an anomaly, and where.

    Args:
        picture: the picture to inspect.
        class_name: what it shows, a noun such as "metal nut"; may be empty.
        threshold: a score above it means anomalous; left out, or null, it is the references' own, or the words' if the model's can tell.
        references: up to 16 good pictures of the same kind of part to compare with; may be empty.

    Returns:
        Score, threshold, verdict, regions with boxes, partial scores and the model, as JSON.
    """
    return _predict(service, picture, class_name, threshold, references).to_dict()


def heat_map(
    service: Service, picture: str | None, class_name: str = "", threshold: float | None = None, references: list[str] | None = None
) -> Image.Image:
    """Draw the heat map of a picture, with the verdict and a colour scale below it.

    Args:
        picture: the picture to inspect.
        class_name: what it shows, a noun such as "metal nut"; may be empty.
        threshold: a score above it means anomalous; left out, or null, it is the references' own, or the words' if the model's can tell.
        references: up to 16 good pictures of the same kind of part to compare with; may be empty.

    Returns:
        The picture with its heat on an absolute colour scale.
    """
    return _predict(service, picture, class_name, threshold, references).overlay()


def detect_batch(
    service: Service, pictures: list[str] | None, class_name: str = "", threshold: float | None = None, references: list[str] | None = None
) -> dict[str, Any]:
    """Inspect many pictures, or zip files of pictures. Without references or threshold, and with a model whose words cannot tell, eight or
    more of one product are judged by each other.

    Args:
        pictures: the pictures or archives.
        class_name: what they show, a noun such as "metal nut"; may be empty.
        threshold: a score above it means anomalous; left out, or null, it is the references' own, or the words' if the model's can tell.
        references: up to 16 good pictures of the same kind of part to compare with; may be empty.

    Returns:
        A summary, the results sorted by score, and the pictures that could not be read with the reason, as JSON.
    """
    with _visiting(service, references, class_name) as visit:
        *_, batch = run_batch(service, visit, pictures or [], class_name, threshold=_checked(threshold))
    results = [{"picture": row.name} | row.prediction.to_dict() for row in batch.sorted_rows if row.prediction is not None]
    return {
        "summary": batch.summary(),
        "remarks": batch.remarks(),
        "results": results,
        "failed": [{"picture": row.name, "error": row.error} for row in batch.failed],
    }


def find_painted(service: Service, clean: str | None, painted: str | None, class_name: str = "") -> dict[str, Any]:
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
    pictures = read_upload(clean, service.limits), read_upload(painted, service.limits)
    return painting.look_for_paint(service, service.detector.copy(), *pictures, checked_class_name(class_name)).to_dict()


def ask(
    service: Service, picture: str | None, question: str = "What is wrong?", class_name: str = "", references: list[str] | None = None
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
    with _visiting(service, references, class_name) as visit:
        handlers.inspect(service, visit, picture, class_name)
        answer = [piece for piece in chat.ask(service, visit, question) if not isinstance(piece, str)][-1]
    values: dict[str, Any] = _without_addresses(answer.to_dict())
    values["evidence"]["reference"] = None  # its path on this server is no business of a client
    return values


def compare_prompts(service: Service, picture: str | None, normal: str, anomalous: str, class_name: str = "") -> dict[str, Any]:
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
    pixels = read_upload(picture, service.limits)
    found = wording.compare_words(service, pixels, class_name, normal, anomalous)
    return {"shipped": found.shipped.to_dict(), "own": found.own.to_dict(), "notes": list(found.notes)}


def describe_model(service: Service) -> dict[str, Any]:
    """Name the model behind this server and its limits.

    Returns:
        The model, who answers questions, and the limits for uploads, as JSON.
    """
    return {
        "model": service.model,
        "vlad": __version__,
        "answers": service.vlm_name or "describer",
        "limits": asdict(service.limits),
    }


@dataclass(frozen=True)
class Endpoint:
    """One endpoint, named as its function.

    Attributes:
        action: the function.
        output: "json", or "picture".
        queue: whose turns it takes; that of the VLM is the model's where there is none.
    """

    action: Callable[..., Any]
    output: str = "json"
    queue: str = MODEL_QUEUE

    @property
    def name(self) -> str:
        """In the address and for MCP."""
        return self.action.__name__


ENDPOINTS = (
    Endpoint(detect),
    Endpoint(heat_map, output="picture"),
    Endpoint(detect_batch, queue=BATCH_QUEUE),
    Endpoint(find_painted),
    Endpoint(ask, queue=VLM_QUEUE),
    Endpoint(compare_prompts),
    Endpoint(describe_model),
)


@contextmanager
def _visiting(service: Service, references: list[str] | None, class_name: str) -> Iterator[Visit]:
    """A visitor for one request, beside good pictures if there are some."""
    visit = Visit.begin(service)
    try:
        if references:
            handlers.add_references(service, visit, references, class_name)
        yield visit
    finally:
        visit.forget()


def _predict(service: Service, picture: str | None, class_name: str, threshold: float | None, references: list[str] | None) -> Prediction:
    limit = _checked(threshold)
    with _visiting(service, references, class_name) as visit:
        prediction = handlers.inspect(service, visit, picture, class_name)
        if limit is None:
            return prediction
        of_map = prediction.mask_threshold
        if visit.detector.memory is None or of_map is None:  # words alone: one scale for score and map
            of_map = limit
        return handlers.adjust(visit, limit, of_map)


def _checked(threshold: float | None) -> float | None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"The threshold must lie between 0 and 1, got {threshold:g}.")
    return threshold


def _without_addresses(values: Any) -> Any:
    """Plain JSON values whose texts hold no server's address."""
    if isinstance(values, dict):
        return {key: _without_addresses(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_addresses(value) for value in values]
    return without_address(values) if isinstance(values, str) else values
