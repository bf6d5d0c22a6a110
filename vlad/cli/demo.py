"""`vlad demo`: the web page, on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vlad.app.guard.hosts import check_names, is_loopback
from vlad.cli import options
from vlad.errors import ConfigError


def demo(
    model: options.Model = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; the next free one if it is taken, 0 for any.")] = 7860,
    vlm: Annotated[
        str, typer.Option(metavar="NAME|URL|none", help="Who explains in the tab Ask; as in `vlad ask`. None: the describer.")
    ] = "none",
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="VLAD_DEMO_AUTH",
            help="Ask visitors for these. Better given in the environment, where other users of this machine do not see it.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Serve other machines without a password. Whoever reaches the port can use the model.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Answer to this name too, and let its pages in: that of a reverse proxy or tunnel, *.example.com, or * for any name.",
            show_default=False,
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the parts of the tab Bench in this folder, for everybody who uses this server.  [default: each visitor's own, while "
            "the page is used]",
            show_default=False,
        ),
    ] = None,
    prompts: options.Prompts = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_pixels: Annotated[int, typer.Option(min=65_536, help="Refuse larger pictures.")] = 25_000_000,
    white: Annotated[
        int | None,
        typer.Option(
            min=255,
            max=65535,
            metavar="LEVEL",
            help="White in pictures of 16 bits, as 4095 of a camera with 12.  [default: 65535]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open a page to inspect pictures, draw defects and ask questions.

    \b
    vlad demo
    vlad demo --workspace parts
    vlad demo --model models/nut --port 8000
    vlad demo --allow-host parts.example.com
    VLAD_DEMO_AUTH=anna:secret vlad demo --host 0.0.0.0

    Nothing leaves this machine: no public link is made and nothing is counted. Other machines are let in with --host, and then only
    with --auth, or with --allow-public. On the loopback the server answers to localhost alone, and pages of other sites are let in
    nowhere; behind a reverse proxy or a tunnel, give the name that browsers see with --allow-host, once for each name.

    Programs use the same server: POST /v1/detect, GET /healthz, gradio_client and, without --auth, MCP.

    Exit codes: 0 stopped with Ctrl-C; 2 usage; 70 a bug.
    """
    login, allow_hosts = _login(auth), check_names(allow_host or ())
    if not is_loopback(host) and login is None and not allow_public:
        raise ConfigError(f"--host {host} lets other machines in; ask for a password with --auth USER:PASSWORD, or say --allow-public")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the demo needs Gradio: pip install 'vlad-anomaly[demo]'")
    from vlad.app.server import listen, serve

    sock = listen(host, port)  # before the model is loaded, so that a taken port costs no time
    taken = sock.getsockname()[1]
    if port and taken != port:
        typer.echo(f"note: port {port} is taken, so this is port {taken}", err=True)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from vlad.app.examples import find_example_batch, find_examples
    from vlad.app.service import KEPT_REFERENCES, Limits, Service
    from vlad.disk import make_folder
    from vlad.vlm.backends import load_vlm

    backend = load_vlm(vlm)
    level = None if white is None else str(white)
    made_of = options.DetectorOptions(model=model, prompts=prompts, device=device, dtype=dtype, white_level=level)
    detector = made_of.load(quiet=False, references=True)
    white = detector.reader.white_level  # that of a saved detector holds for its visitors too
    # A detector of nuts has nothing to say of leather.
    examples, batch = (find_examples(), find_example_batch()) if detector.memory is None else ((), ())
    limits = Limits(pixels=max_pixels, white_level=white)
    if workspace is not None:
        make_folder(workspace, "--workspace needs")
        limits = replace(limits, references=KEPT_REFERENCES)
    service = Service(detector, backend, limits, examples, batch, workspace)
    address = f"http://[{host}]:{taken}" if ":" in host else f"http://{host}:{taken}"
    typer.echo("starting ...", err=True)
    if hasattr(signal, "SIGHUP"):  # the terminal was closed: end as with Ctrl-C, so that uploads are deleted
        signal.signal(signal.SIGHUP, signal.default_int_handler)

    def ready() -> None:
        typer.echo(f"vlad demo: {address}  (stop with Ctrl-C)", err=True)

    with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        serve(service, sock, host=host, login=login, allow_hosts=allow_hosts, ready=ready)
    typer.echo("stopped; uploads are deleted", err=True)


def _login(auth: str | None) -> tuple[str, str] | None:
    if not auth:
        return None
    user, _, password = auth.partition(":")
    if not user or not password:
        raise ConfigError("--auth expects USER:PASSWORD, with neither part empty")
    return user, password
