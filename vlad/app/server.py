"""The server: the page at /, `POST /v1/detect` and `GET /healthz` for programs, on one address."""

import base64
import contextlib
import errno
import functools
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import replace
from typing import Any

import anyio
from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from vlad import __version__
from vlad.app.handlers import checked_class_name
from vlad.app.notes import quietly
from vlad.app.service import BusyError, Service
from vlad.app.uploads import read_bytes, short_name
from vlad.errors import ConfigError, ImageReadError, VladError

_PORTS = 20  # ports tried from the wanted one on
_DRAINED = 4  # times the limit that is read of a request that is refused
_ROOM_FOR_FORM = 2**16  # bytes of a request beside its file
_log = logging.getLogger("vlad.app")
Login = tuple[str, str]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@contextlib.contextmanager
def private_cache() -> Iterator[str]:
    """A folder for uploads that nobody else has and that goes with the server. It must be there before the page is built."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    folder = tempfile.mkdtemp(prefix="vlad-uploads-")
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def create_app(service: Service, *, login: Login | None = None, host: str = "127.0.0.1", port: int = 7860) -> FastAPI:
    """The application of a service, as any ASGI server takes it; within `private_cache`.

    Args:
        login: user and password that the page and the endpoint ask for; None asks nobody.
        host, port: where it will be served, as MCP clients are told.
    """
    import gradio as gr

    from vlad.app.build import build_page
    from vlad.app.style import CSS, HEAD, theme

    app = FastAPI(title="vlad", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_BodyLimit, limit=service.limits.file_bytes + _ROOM_FOR_FORM)
    _add_endpoints(app, service, login)
    return gr.mount_gradio_app(
        app,
        build_page(service),
        path="/",
        server_name=host,
        server_port=port,
        auth=login,
        auth_message="This demo asks for a user and a password." if login else None,
        max_file_size=service.limits.file_bytes,
        allowed_paths=[str(example.path.parent) for example in service.examples[:1]],
        blocked_paths=["/etc", "/proc", "/sys", "/root"],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api"],
        mcp_server=login is None and importlib.util.find_spec("mcp") is not None,  # its tools know no login
        theme=theme(),
        css=CSS,
        head=HEAD,
    )


def _add_endpoints(app: FastAPI, service: Service, login: Login | None) -> None:
    line = anyio.CapacityLimiter(service.limits.waiting + 2)  # of its own, so that who waits here holds up nobody else's threads

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": service.model, "vlad": __version__}

    @app.post("/v1/detect")
    async def detect(
        request: Request,
        image: UploadFile = File(),
        class_name: str = Form(""),
        threshold: float | None = Form(None, ge=0, le=1),
    ) -> dict[str, Any]:
        _check_login(request, login)
        data = await image.read(service.limits.file_bytes + 1)
        if len(data) > service.limits.file_bytes:
            raise HTTPException(413, f"the picture has more than {service.limits.file_bytes // 2**20} MB; make it smaller")
        work = functools.partial(_detect, service, data, short_name(image.filename or "picture"), class_name, threshold)
        return await anyio.to_thread.run_sync(work, limiter=line)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_form(_: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        return JSONResponse({"error": f"{said}. Send a form with the file `image`, and optionally class_name and threshold."}, 422)

    @app.exception_handler(VladError)
    async def of_vlad(_: Request, error: VladError) -> JSONResponse:
        if isinstance(error, BusyError):
            return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "30"})
        return JSONResponse({"error": str(error)}, 422 if isinstance(error, ImageReadError) else 400)

    @app.exception_handler(Exception)
    async def of_bug(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "something went wrong on the server; it has been noted there"}, 500)


def _detect(service: Service, data: bytes, name: str, class_name: str, threshold: float | None) -> dict[str, Any]:
    noun = checked_class_name(class_name) or None
    picture = read_bytes(data, service.limits, name)
    with service.turn(), quietly():
        prediction = service.detector.predict(picture, class_name=noun, threshold=threshold)
    return replace(prediction, image_path=name).to_dict()


def _check_login(request: Request, login: Login | None) -> None:
    if login is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(token, validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        given = b""
    if not secrets.compare_digest(given, ":".join(login).encode()):
        raise HTTPException(401, "user and password are needed (HTTP basic)", headers={"WWW-Authenticate": "Basic"})


class _BodyLimit:
    """Ends a request to /v1 whose body is too long before it fills the disk, whatever its header says."""

    def __init__(self, app: Any, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limit:
            await self._refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                await self._drain(receive, message)
                raise HTTPException(413, self._reason())
            return message

        await self.app(scope, counted, send)

    async def _refuse(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        await self._drain(receive, {"type": "http.request", "more_body": True})
        await JSONResponse({"error": self._reason()}, 413)(scope, receive, send)

    async def _drain(self, receive: _Receive, message: MutableMapping[str, Any]) -> None:
        """Read on and keep nothing: who still sends when the answer comes sees a broken connection instead of it. Only so far, though."""
        dropped = 0
        while message.get("more_body") and message["type"] == "http.request" and dropped < _DRAINED * self.limit:
            message = await receive()
            dropped += len(message.get("body", b""))

    def _reason(self) -> str:
        return f"the request is larger than {self.limit // 2**20} MB; make the picture smaller"


def listen(host: str, port: int) -> socket.socket:
    """A socket on the wanted port, or on the next free one.

    Raises:
        ConfigError: none of them is free, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + _PORTS, 65536)) if port else (0,):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(128)
            return sock
        except OSError as error:
            sock.close()
            if error.errno == errno.EACCES:
                raise ConfigError(f"port {candidate} may not be used by this user; take one above 1023 with --port") from error
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"cannot listen on {host}: {error}; check --host") from error
    raise ConfigError(f"ports {port} to {port + _PORTS - 1} on {host} are all taken; name a free one with --port")


def serve(service: Service, sock: socket.socket, *, host: str, login: Login | None = None, ready: Callable[[], None] | None = None) -> None:
    """Serve until interrupted; uploads and files go with the server. `ready` is called when it answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if ready is not None and self.started:
                ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # pages that are still open are no errors
            await super().shutdown(sockets)

    with private_cache(), sock:
        app = create_app(service, login=login, host=host, port=sock.getsockname()[1])
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False)
        try:
            Server(config).run(sockets=[sock])
        finally:
            service.close()
