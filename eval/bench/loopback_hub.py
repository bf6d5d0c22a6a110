"""A model hub on this machine: as much of the hub's protocol as its client needs to fetch files, served on a loopback port.

Its repositories hold real architectures with random weights in the layout of the real ones, so that loading by name can be rehearsed
where no hub can be reached. `tests/integration/test_hub.py` and `eval/bench/hub.py` use it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is served, and what was asked for.

    Attributes:
        repositories: for each ORG/REPO the folder of its files.
        states: for each ORG/REPO that is not simply there: "gated", "private", "cut" (the first answers end half-way), "damaged" (other
            bytes than stated), or "slow" (nothing comes until the hub is closed).
        requests: method, path and the Range asked for, of all requests so far.
        address: of the server.
        writable: where repositories are made that somebody pushes; None lets nobody write.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""
    writable: Path | None = None
    closing: threading.Event = field(default_factory=threading.Event)
    cuts: int = 2

    def asked_for(self, part: str) -> list[tuple[str, str, str]]:
        """The requests whose path holds `part`."""
        return [request for request in self.requests if part in request[1]]


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub without repositories, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(is_head=True)

        def do_GET(self) -> None:
            self._answer(is_head=False)

        def do_POST(self) -> None:
            """As much as a push needs: a repository is made, small files are taken as they are, and a commit writes them."""
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path, ""))
            parts = path.strip("/").split("/")
            repo = "/".join(parts[2:4])
            if path == "/api/repos/create":
                asked = json.loads(content)
                repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                if hub.writable is None:
                    self._end(403, {"X-Error-Message": "you may not write here"})
                    return
                hub.repositories.setdefault(repo, hub.writable / repo.replace("/", "--")).mkdir(parents=True, exist_ok=True)
                self._say({"url": f"{hub.address}/{repo}", "private": asked.get("private")})
            elif path == "/api/validate-yaml":
                self._say({"errors": [], "warnings": []})
            elif len(parts) > 4 and parts[4] == "preupload":
                files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(content)["files"]]
                self._say({"files": files})
            elif len(parts) > 4 and parts[4] == "commit":
                for line in map(json.loads, content.splitlines()):
                    if line["key"] == "file":
                        (hub.repositories[repo] / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
                self._say({"commitUrl": f"{hub.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": "", "success": True})
            else:
                self._end(404)

        def _say(self, values: dict[str, Any]) -> None:
            body = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, *, is_head: bool) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path, self.headers.get("Range", "")))
            parts = path.strip("/").split("/")
            if len(parts) < 5 or parts[2] != "resolve":
                self._end(200 if path == "/" else 404)
                return
            repo, name = "/".join(parts[:2]), "/".join(parts[4:])
            state = hub.states.get(repo, "")
            if state in ("gated", "private") or repo not in hub.repositories:
                code = "GatedRepo" if state == "gated" else "RepoNotFound"
                self._end(403 if state == "gated" else 401, {"X-Error-Code": code, "X-Error-Message": f"{repo}: {code}"})
                return
            file = hub.repositories[repo] / name
            if not file.is_file():
                self._end(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            self._send(file, state, is_head=is_head)

        def _send(self, file: Path, state: str, *, is_head: bool) -> None:
            size = file.stat().st_size
            digest = hashlib.file_digest(file.open("rb"), "sha256").hexdigest()
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Content-Length": str(size - start)}
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            self.send_response(206 if start else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if is_head:
                return
            if state == "slow":
                hub.closing.wait()
                self.close_connection = True
                return
            end = size
            if state == "cut" and hub.cuts > 0:
                hub.cuts -= 1
                end = start + (size - start) // 2
            with file.open("rb") as source, suppress(OSError):
                source.seek(start)
                left = end - start
                while left > 0:
                    chunk = source.read(min(left, 2**20))
                    self.wfile.write(bytes(len(chunk)) if state == "damaged" else chunk)
                    left -= len(chunk)
            self.close_connection = end < size

        def _end(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": "0"}.items():
                self.send_header(key, value)
            self.end_headers()

    return Handler


def make_shallow(layers: int = 2) -> None:
    """From here on, in this process, every transformer that timm and open_clip make by name has so many blocks: all else about it, names,
    sizes, preprocessing and file formats, stays as it is, and it takes a hundredth of the time."""
    import open_clip.factory
    import timm

    real = timm.create_model

    def create(name: str, **settings: Any) -> Any:
        with suppress(TypeError):
            return real(name, **{"depth": layers, **settings})
        return real(name, **settings)

    timm.create_model = create
    open_clip.timm_model.timm.create_model = create
    for config in open_clip.factory._MODEL_CONFIGS.values():
        for part in ("vision_cfg", "text_cfg"):
            if isinstance(config.get(part, {}).get("layers"), int):
                config[part]["layers"] = layers


def make_repository(source: str, folder: Path) -> tuple[str, Callable[..., Any]]:
    """The repository of a preset's source, with random weights, in `folder`.

    Returns:
        Its name ORG/REPO, and the model itself as timm or open_clip made it.
    """
    import open_clip
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    if source.startswith("timm:"):
        name = source.removeprefix("timm:")
        model = _create_timm(timm, name)
        save_file(_plain(model.state_dict()), folder / "model.safetensors")
        return str(timm.get_pretrained_cfg(name).to_dict()["hf_hub_id"]), model
    if source.startswith("hf-hub:"):
        repo = source.removeprefix("hf-hub:")
        config = open_clip.get_model_config(repo.partition("/")[2])
        config["text_cfg"]["vocab_size"] = _write_tokenizer(folder)
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
        model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"}).eval()
        save_file(_plain(model.state_dict()), folder / "open_clip_model.safetensors")
        return repo, model
    architecture, _, tag = source.partition(":")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    model = open_clip.create_model(architecture, force_quick_gelu=bool(config.get("quick_gelu"))).eval()
    repo, _, name = config["hf_hub"].rpartition("/")
    save_file(_plain(model.state_dict()), folder / (f"{Path(name).stem}.safetensors" if name else "open_clip_model.safetensors"))
    return repo, model


def _create_timm(timm: Any, name: str) -> Any:
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    except TypeError:
        return timm.create_model(name, pretrained=False, num_classes=0).eval()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def _write_tokenizer(folder: Path) -> int:
    """A tokenizer of a few words in the hub's format; its size."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["a", "photo", "of", "the", "flawless", "damaged", "object", "</s>", "<pad>", "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(words)
