"""`vlad serve`: detectors over HTTP for other programs, without a page."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, VladError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]FOLDER...", help="Folders of `vlad fit` or `vlad export`, several at once.", show_default=False),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines, with --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="File with the hashes of keys; without it everybody may ask.", show_default=False)
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a key, print it and its line for --keys, and end.", show_default=False),
    ] = None,
    results: Annotated[Path | None, typer.Option(help="SQLite file to which every result is appended.", show_default=False)] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="With --results: who is told of each, again until it is heard.", show_default=False)
    ] = None,
    most_models: Annotated[int, typer.Option(min=1, help="Models in memory at once.")] = 4,
    waiting: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are sent away with 429.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of several requests that go through a model together.")] = 8,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds that a request waits for its results.")] = 60.0,
    quiet: options.Quiet = False,
) -> None:
    """Serve detectors: POST /v1/detect takes pictures, /docs explains; /v1/models, /healthz, /readyz, and /metrics for Prometheus.

    A folder that is written anew is taken without a gap. A polite end (SIGTERM) finishes what was accepted.

    \b
    vlad serve models/nut exported/bolt --results results.sqlite
    vlad serve models/                           # every folder in it
    curl -F file=@part.png -F model=nut http://127.0.0.1:8000/v1/detect
    vlad serve --new-key line_3 | tail -1 >> keys.txt
    vlad serve models/nut --host 0.0.0.0 --keys keys.txt

    Exit codes: 0 ended politely; 2 usage; 74 the results cannot be written.
    """
    from vlad.serve.keys import Keys
    from vlad.serve.keys import new_key as make_key
    from vlad.serve.models import Models, named

    if new_key is not None:
        key, line = make_key(new_key)
        typer.echo(f"key of {new_key}, shown once: {key}", err=True)
        typer.echo(line)
        return
    if webhook is not None and results is None:
        raise ConfigError("--webhook tells of what is written; name a file with --results")
    folders = named(models or [])
    known = None if keys is None else Keys(keys)
    try:
        import uvicorn

        from vlad.serve.app import ServeLimits, build
    except ImportError as error:
        raise VladError(f"vlad serve needs {error.name}; pip install 'vlad-anomaly[serve]'") from error
    from vlad.serve.records import Records

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port, or --host of this machine"
        ) from None
    records = None if results is None else Records(results, webhook)
    held = Models(folders, most=most_models)
    for name in held.names[:most_models]:
        held.get(name)  # what cannot be loaded is told now
    limits = ServeLimits(waiting=waiting, batch=batch_size, seconds=time_limit)
    app = build(held, limits=limits, keys=known, records=records)
    port = listening.getsockname()[1]
    if not quiet:
        typer.echo(f"serving {', '.join(held.names)} at http://{host}:{port} (/docs explains)", err=True)
        if known is None and host not in _LOOPBACK:
            typer.echo("note: whoever reaches this address may ask; --keys lets in those who have a key", err=True)
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=int(time_limit) + 5)
    with contextlib.suppress(KeyboardInterrupt):  # the server ends politely, and then passes on the signal that it got
        uvicorn.Server(settings).run(sockets=[listening])
