"""The server: the page at /, `POST /v1/detect` and `GET /healthz` for programs, on one address."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.routing import Mount

from vlad import __version__
from vlad.app.guard.bodies import Bodies
from vlad.app.guard.errors import Errors, in_short
from vlad.app.guard.hosts import Hosts
from vlad.app.guard.logins import Login, Logins
from vlad.app.guard.storage import OwnFolder, Storage
from vlad.app.names import checked_class_name
from vlad.app.notes import quietly
from vlad.app.service import BusyError, Service
from vlad.app.uploads import read_bytes, short_name
from vlad.errors import ConfigError, ImageReadError, VladError, noting
from vlad.untrusted import printable

if TYPE_CHECKING:
    import uvicorn

_PORTS = 20  # ports tried from the wanted one on
_ASKING = "This demo asks for a user and a password."
_log = logging.getLogger("vlad.app")


@contextlib.contextmanager
def private_cache() -> Iterator[str]:
    """A folder for uploads that nobody else has and that goes with the server. It must be there before the page is built."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    folder = OwnFolder("vlad-uploads-")
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        yield str(folder.path)
    finally:
        folder.close()
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def create_app(
    service: Service, *, login: Login | None = None, host: str = "127.0.0.1", port: int = 7860, allow_hosts: Sequence[str] = ()
) -> FastAPI:
    """The application of a service, as any ASGI server takes it; within `private_cache`.

    Args:
        login: user and password that the page and the endpoint ask for; None asks nobody.
        host, port: where it will be served, as MCP clients are told; on the loopback it answers to no other machine's name.
        allow_hosts: further names that it answers to, and whose pages may use it: `NAME`, `*.example.com`; `*` is any name.

    Raises:
        ConfigError: one of them is no name of a host.
    """
    import gradio as gr
    from gradio.route_utils import FnIndexInferError

    from vlad.app.build import build_page
    from vlad.app.style import CSS, HEAD, theme

    app = FastAPI(title="vlad", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    _add_endpoints(app, service)
    gr.mount_gradio_app(
        app,
        build_page(service),
        path="/",
        server_name=host,
        server_port=port,
        auth=login,
        auth_message=_ASKING if login else None,
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
        app_kwargs={"openapi_url": None},
    )
    page = _page_of(app)
    for kind in (KeyError, FnIndexInferError):
        page.add_exception_handler(kind, _of_nothing)
    page.add_exception_handler(Exception, _of_bug)
    _add_guards(app, page, service, login, host, allow_hosts)
    return app


def _page_of(app: FastAPI) -> Any:
    """Gradio's own application inside of ours."""
    return next(route.app for route in app.routes if isinstance(route, Mount))


def _add_guards(app: FastAPI, page: Any, service: Service, login: Login | None, host: str, allow_hosts: Sequence[str]) -> None:
    """What every request passes, in the opposite order: the last one added sees it first."""
    limits = service.limits

    def user_of(cookies: dict[str, str]) -> str | None:
        tokens = (cookies.get(f"access-token-{kind}{page.cookie_id}") for kind in ("", "unsecure-"))
        return next((page.tokens[token] for token in tokens if token in page.tokens), None)

    if login is not None:
        app.add_middleware(Logins, login=login, user_of=user_of, message=_ASKING)
    app.add_middleware(Errors)
    storage = Storage([page.uploaded_file_dir, service.folder], limits.stored_bytes)
    app.add_middleware(
        Bodies,
        file_bytes=limits.file_bytes,
        files=max(2 * limits.pictures, limits.references),
        held_bytes=limits.held_bytes,
        storage=storage,
    )
    app.add_middleware(Hosts, bound=host, names=allow_hosts)


def _add_endpoints(app: FastAPI, service: Service) -> None:
    line = anyio.CapacityLimiter(service.limits.waiting + 2)  # of its own, so that who waits here holds up nobody else's threads

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": service.model, "vlad": __version__}

    @app.post("/v1/detect")
    async def detect(
        image: UploadFile = File(),
        class_name: str = Form(""),
        threshold: float | None = Form(None, ge=0, le=1),
    ) -> dict[str, Any]:
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

    app.add_exception_handler(Exception, _of_bug)


async def _of_bug(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "something went wrong on the server; it has been noted there"}, 500)


async def _of_nothing(request: Request, error: Exception) -> JSONResponse:
    """Gradio looks up names of endpoints and the like in tables."""
    _log.warning("%s %s: %s", request.method, printable(request.url.path[:200], one_line=True), in_short(error))
    return JSONResponse({"error": "there is nothing of this name here; see /gradio_api/info"}, 404)


def _detect(service: Service, data: bytes, name: str, class_name: str, threshold: float | None) -> dict[str, Any]:
    noun = checked_class_name(class_name) or None
    with quietly():
        with noting() as notes:
            picture = read_bytes(data, service.limits, name)
        with service.turn():
            prediction = service.detector.predict(picture, class_name=noun, threshold=threshold)
    return replace(prediction, image_path=name, warnings=(*notes, *prediction.warnings)).to_dict()


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


def configure(app: FastAPI, *, behind_proxy: bool = False) -> uvicorn.Config:
    """How uvicorn serves the application: with limits for connections, and believing a proxy's word of who asks only if there is one."""
    import uvicorn

    from vlad.app.guard.sockets import MOST_CONNECTIONS, MOST_HEADER, PatientProtocol

    return uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="warning",
        server_header=False,
        proxy_headers=behind_proxy or "FORWARDED_ALLOW_IPS" in os.environ,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEADER,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )


def serve(
    service: Service,
    sock: socket.socket,
    *,
    host: str,
    login: Login | None = None,
    allow_hosts: Sequence[str] = (),
    ready: Callable[[], None] | None = None,
) -> None:
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
        app = create_app(service, login=login, host=host, port=sock.getsockname()[1], allow_hosts=allow_hosts)
        try:
            Server(configure(app, behind_proxy=bool(allow_hosts))).run(sockets=[sock])
        finally:
            service.close()
