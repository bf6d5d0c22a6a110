"""The HTTP side: FastAPI, and nothing that needs a page."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from vlad import __version__
from vlad.errors import ConfigError, ImageReadError, OutputError, VladError
from vlad.pictures.isolated import IsolatedReader
from vlad.prediction import Prediction
from vlad.serve.batching import Batcher, ClosedError, FullError
from vlad.serve.keys import Keys
from vlad.serve.models import Models, UnknownModelError
from vlad.serve.records import Records

_FIELDS = {"file", "model", "threshold", "maps"}
_BESIDE = 2**16  # bytes of a form beside its files
_RETRY = 1  # seconds after which somebody who was sent away may ask again


@dataclass(frozen=True, kw_only=True)
class ServeLimits:
    """What a client may ask for.

    Attributes:
        file_bytes: of one file.
        files: of one request.
        pixels: of one picture.
        waiting: pictures that wait for the model; more are sent away with 429.
        batch: pictures that go through a model together.
        seconds: that a request waits for its results.
        reading_seconds: that decoding a picture may take.
    """

    file_bytes: int = 20 * 2**20
    files: int = 32
    pixels: int = 50_000_000
    waiting: int = 64
    batch: int = 8
    seconds: float = 60.0
    reading_seconds: float = 20.0


class Metrics:
    """What Prometheus is told."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("vlad_requests", "Requests to /v1/detect by their status.", ["status"], **of)
        self.pictures = Counter("vlad_pictures", "Pictures by model and verdict.", ["model", "verdict"], **of)
        self.scores = Histogram("vlad_score", "Scores by model.", ["model"], buckets=[number / 20 for number in range(1, 21)], **of)
        self.seconds = Histogram("vlad_request_seconds", "Time from a request to its answer.", buckets=_SECONDS, **of)
        self.waiting = Gauge("vlad_waiting_pictures", "Pictures that wait for the model.", **of)
        self.held = Gauge("vlad_loaded_models", "Models in memory.", **of)
        self.stale = Gauge("vlad_stale_models", "Models whose folder has changed and could not be taken.", **of)
        self.refused = Gauge("vlad_refused_results", "Results that the webhook has refused for good.", **of)
        self.untold = Gauge("vlad_untold_results", "Results that the webhook has not heard of.", **of)


_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


def build(models: Models, *, limits: ServeLimits | None = None, keys: Keys | None = None, records: Records | None = None) -> FastAPI:
    """The application.

    Args:
        models: what is served.
        limits: of a client.
        keys: who may ask; None lets everybody.
        records: where results go beside the answer; None keeps none.
    """
    limits = limits or ServeLimits()
    metrics, reader = Metrics(), IsolatedReader()

    def score(name: str, pictures: list[np.ndarray], options: dict[str, Any]) -> list[Any]:
        return list(models.get(name).predict(pictures, on_error="return", **options))

    batcher = Batcher(score, most=limits.batch, waiting=limits.waiting)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.is_ready = True
        yield
        app.state.is_ready = False
        await run_in_threadpool(batcher.close)
        reader.close()
        if records is not None:
            await run_in_threadpool(records.close)

    app = FastAPI(title="vlad", version=__version__, description=_DESCRIPTION, lifespan=life, docs_url="/docs", redoc_url=None)
    app.state.batcher = batcher

    async def read(upload: UploadFile, white_level: int | None) -> tuple[str, np.ndarray | ImageReadError]:
        name = (upload.filename or "picture").replace("\\", "/").rpartition("/")[2][:200]
        data = await upload.read(limits.file_bytes + 1)
        if len(data) > limits.file_bytes:
            return name, ImageReadError(f"{name}: larger than {limits.file_bytes:,} bytes")
        try:
            how: dict[str, Any] = {"max_pixels": limits.pixels, "seconds": limits.reading_seconds, "wait": limits.seconds}
            how["white_level"] = white_level
            return name, await run_in_threadpool(reader.read, data, **how)
        except ImageReadError as error:
            return name, ImageReadError(f"{name}: {str(error).removeprefix('bytes: ')}")
        except TimeoutError as error:
            raise FullError(str(error)) from error

    async def judged(name: str, picture: np.ndarray | ImageReadError, model: str, options: dict[str, Any]) -> dict[str, Any]:
        about = {"file": name, "model": model, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        if isinstance(picture, ImageReadError):
            return about | {"error": str(picture)}
        found = await asyncio.wrap_future(batcher.submit(model, picture, **options))
        if isinstance(found, ImageReadError):
            return about | {"error": str(found)}
        assert isinstance(found, Prediction)
        metrics.scores.labels(model).observe(found.pred_score)
        details = {key: value for key, value in found.to_dict().items() if key != "image_path"}
        return about | details | {"model_name": found.model, "model": model}

    @app.post("/v1/detect", responses=_RESPONSES)
    async def detect(
        request: Request,
        file: Annotated[list[UploadFile], File(description="One picture or several.")],
        model: Annotated[str | None, Form(description="Its name; may be left out where one is served.")] = None,
        threshold: Annotated[float | None, Form(ge=0, le=1, description="A score above it means anomalous; else the model's own.")] = None,
        maps: Annotated[bool, Form(description="Marked places as well as scores.")] = True,
    ) -> dict[str, Any]:
        """Say whether pictures show an anomaly, and where. Files that cannot be read have an `error` instead of a score."""
        name = model or (models.names[0] if len(models.names) == 1 else "")
        if name not in models.names:
            raise HTTPException(404, f"there is no model {name!r}; served are {', '.join(models.names)}")
        if len(file) > (most := min(limits.files, limits.waiting)):
            raise HTTPException(413, f"{len(file)} files are more than {most} in one request")
        detector: Any = await run_in_threadpool(models.get, name)
        white_level = getattr(getattr(detector, "reader", None), "white_level", None)
        options: dict[str, Any] = {"maps": maps} | ({} if threshold is None else {"threshold": threshold})
        if unknown := sorted(set(await request.form()) - _FIELDS):
            raise HTTPException(422, f"there is no field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")

        async def both(one: UploadFile) -> dict[str, Any]:
            label, picture = await read(one, white_level)
            return await judged(label, picture, name, options)

        async with asyncio.timeout(limits.seconds), asyncio.TaskGroup() as group:  # decoding included; where one fails the others end
            tasks = [group.create_task(both(one)) for one in file]
        results = [task.result() for task in tasks]
        for result in results:
            verdict = "error" if "error" in result else {True: "anomalous", False: "normal", None: "undecided"}[result["pred_label"]]
            metrics.pictures.labels(name, verdict).inc()
        if records is not None:
            await run_in_threadpool(records.add, results)
        return {"model": name, "results": results}

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served, and which of them are in memory."""
        held = models.held
        return {"models": [{"name": name, "is_loaded": name in held, "problem": models.problems.get(name)} for name in models.names]}

    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz")
    async def ready() -> Response:
        """Whether it takes requests: not while it starts or ends, nor with a full queue."""
        is_ready = getattr(app.state, "is_ready", False) and batcher.waiting < limits.waiting
        return JSONResponse({"status": "ready" if is_ready else "busy"}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def tell_metrics() -> Response:
        """For Prometheus."""
        metrics.waiting.set(batcher.waiting)
        metrics.held.set(len(models.held))
        metrics.stale.set(len(models.problems))
        if records is not None:
            metrics.untold.set(await run_in_threadpool(lambda: records.untold))
            metrics.refused.set(await run_in_threadpool(lambda: records.refused))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.middleware("http")
    async def measured(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.perf_counter()
        try:
            response = await call(request)
        except Exception:
            traceback.print_exc()
            response = JSONResponse({"detail": "an internal error; the log of the service has it"}, 500)
        if request.url.path == "/v1/detect":
            metrics.requests.labels(str(response.status_code)).inc()
            metrics.seconds.observe(time.perf_counter() - start)
        return response

    @app.exception_handler(VladError)
    async def of_ours(request: Request, error: VladError) -> Response:
        status, headers = 500, {}
        for kind, code in ((UnknownModelError, 404), (ConfigError, 422), (ImageReadError, 422), (OutputError, 507)):
            status = code if isinstance(error, kind) else status
        if isinstance(error, (FullError, ClosedError)):
            status, headers = (429 if isinstance(error, FullError) else 503), {"Retry-After": str(_RETRY)}
        return JSONResponse({"detail": str(error)}, status, headers=headers)

    @app.exception_handler(TimeoutError)
    async def too_slow(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": f"no result within {limits.seconds:g} seconds"}, 504)

    @app.exception_handler(ExceptionGroup)
    async def of_several(request: Request, error: ExceptionGroup) -> Response:
        first = next((one for one in error.exceptions if isinstance(one, VladError)), None)
        if first is None:
            raise error.exceptions[0]
        return await of_ours(request, first)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        """Without what was sent, which may be a picture."""
        told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": f"{told[:500]}; pictures go as files in the field 'file'"}, 422)

    app.add_middleware(_Guard, most=limits.files * limits.file_bytes + _BESIDE, keys=keys)
    return app


class _Guard:
    """Ends a request without a key, or one that sends more than it may, before its body is read to the end."""

    def __init__(self, app: Any, most: int, keys: Keys | None) -> None:
        self.app, self.most, self.keys = app, most, keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.keys is not None and scope["path"].startswith("/v1/") and self.keys.owner(_key_of(headers)) is None:
            about = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            await JSONResponse({"detail": "a key is needed: Authorization: Bearer KEY"}, 401, headers=about)(scope, receive, send)
            return
        length = headers.get(b"content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.most:
            await self._too_much(scope, receive, send)
            return
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(413, self._words)
            return message

        await self.app(scope, counted, send)

    @property
    def _words(self) -> str:
        return f"a request of more than {self.most:,} bytes is not read"

    async def _too_much(self, scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"detail": self._words}, 413, headers={"Connection": "close"})(scope, receive, send)


def _key_of(headers: dict[bytes, str]) -> str:
    header = headers.get(b"authorization", "")
    return header[7:] if header.lower().startswith("bearer ") else headers.get(b"x-api-key", "")


_DESCRIPTION = "Visual anomalies: is something wrong with a picture, and where. Pictures come as files; addresses are not fetched."
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "model": "nut",
                    "results": [
                        {"file": "part.png", "pred_score": 0.21, "threshold": 0.12, "pred_label": True, "regions": []},
                        {"file": "notes.txt", "error": "notes.txt: is no picture"},
                    ],
                }
            }
        }
    },
    401: {"description": "No key, or an unknown one."},
    404: {"description": "No model of that name."},
    413: {"description": "Too many files, or too large ones."},
    429: {"description": "Too many pictures wait; Retry-After says when to ask again."},
    504: {"description": "No result in time."},
}
