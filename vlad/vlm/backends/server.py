"""Any OpenAI-compatible server (vLLM, Ollama, LM Studio, llama.cpp, `transformers serve`), through the `openai` client."""

from __future__ import annotations

import base64
import io
import ipaddress
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from vlad.errors import VlmError
from vlad.untrusted import cleaned
from vlad.vlm.backends.base import Finish, Limits, Message, Reply

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")
KEY = "VLAD_VLM_API_KEY"
_PNG_LIMIT = 1_000_000  # bytes; a larger picture goes as JPEG, which loses little at this quality
_JPEG_QUALITY = 95
_OPENAI = "api.openai.com"
_HEADERS = {
    "x-stainless-raw-response",
    "authorization",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "host",
    "connection",
    "user-agent",
}
_LONGEST_REPLY = 100_000  # characters that are kept of a reply
_GRACE = 0.5  # seconds after the limit in which the client's own time-out may still speak
_LEAST_MASS = 0.5  # probability of the letters together below which the model was about to say something else
_LONGEST_PAUSE = 10.0  # seconds between two attempts, whatever the server asks for


class ServerBackend:
    """A VLM behind a URL, see `vlad.vlm.backends.base.VlmBackend`.

    The key comes from the environment: VLAD_VLM_API_KEY, or for api.openai.com alone OPENAI_API_KEY; no other server is ever sent that one.
    Nothing is sent before the first question.

    Args:
        url: of the API, such as "http://localhost:8000/v1"; "#MODEL" at its end names the model.
        model: the model's name; None takes the server's only one.
        retries: further attempts when the server cannot be reached, is busy (429) or fails (5xx); a time-out is not tried again.
        most_images: pictures that the server takes in one chat; None without limit.

    Raises:
        VlmError: the URL is none, holds a password, or the `openai` client is not installed.
    """

    def __init__(self, url: str, *, model: str | None = None, retries: int = 2, most_images: int | None = None) -> None:
        try:
            from openai import DefaultHttpxClient, OpenAI
        except ImportError as error:
            raise VlmError(f"{url}: needs the openai client; pip install 'vlad-anomaly[vlm]'") from error
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises where it is none
        except ValueError as error:
            raise VlmError(f"expected the URL of a server such as http://localhost:8000/v1, got {url!r}: {error}; correct it") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise VlmError(f"expected the URL of a server such as http://localhost:8000/v1, got {url!r}; correct it")
        if parts.username is not None or parts.password is not None:
            raise VlmError(f"{parts.hostname}: expected no password in the URL; put the key into the environment as {KEY}")
        if parts.query:
            raise VlmError(f"{parts.hostname}: expected no query (?...) in the URL; put the key into the environment as {KEY}")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        self.url = f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
        self.most_images = most_images
        self._model = model or parts.fragment or None
        self._retries = retries
        self._takes_schema = self._tells_letters = True
        key = os.environ.get(KEY) or (os.environ.get("OPENAI_API_KEY") if parts.hostname == _OPENAI else None)
        self._has_key = bool(key)
        self._client: OpenAI = OpenAI(
            base_url=self.url,
            api_key=key or "none",
            max_retries=0,  # its own would try a time-out again
            http_client=DefaultHttpxClient(
                trust_env=not _is_loopback(parts.hostname),  # a proxy cannot reach this machine's loopback
                follow_redirects=False,  # pictures go to the host that was named, and to no other
                event_hooks={"request": [] if parts.hostname == _OPENAI else [_keep_known_headers]},
            ),
        )

    @property
    def name(self) -> str:
        """The model, as far as it is known yet, and where it runs."""
        return f"{self._model or 'VLM'} at {self.url}"

    def identify(self) -> str:
        """See `VlmBackend.identify`; asks the server which model it serves, where no name was given."""
        with self._explained(Limits()):
            self._find_model(Limits())
        return self.name

    def chat(
        self,
        messages: Sequence[Message],
        *,
        limits: Limits | None = None,
        schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """See `VlmBackend.chat`."""
        limits = limits or Limits()
        start = time.perf_counter()
        heard = _Heard(on_text)
        try:
            finish = _within(limits.seconds + _GRACE, lambda: self._chat(messages, limits, schema, heard))
        except TimeoutError:
            heard.enough.set()
            if not heard.text:
                raise VlmError(f"{self.name}: {_too_slow(limits)}") from None
            finish = "time"
        return Reply(heard.text, finish, time.perf_counter() - start)

    def letters(self, messages: Sequence[Message], letters: Sequence[str], *, limits: Limits | None = None) -> dict[str, float] | None:
        """See `VlmBackend.letters`; from the log-probabilities of the first token. None where there are none, or where the letters
        together are not the likelier half of what it would say."""
        from openai import BadRequestError, UnprocessableEntityError

        if not self._tells_letters:
            return None
        request = {"messages": [_as_json(message) for message in messages], "max_tokens": 1, "temperature": 0.0}
        limits = limits or Limits()
        try:
            with self._explained(limits, let=(BadRequestError, UnprocessableEntityError)):
                data = _within(limits.seconds + _GRACE, lambda: self._ask(request | {"logprobs": True, "top_logprobs": 20}, limits))
                content = (_first_choice(data).get("logprobs") or {}).get("content") or []
                candidates = [(str(entry["token"]), float(entry["logprob"])) for entry in (content[0]["top_logprobs"] if content else [])]
        except TimeoutError:
            raise VlmError(f"{self.name}: {_too_slow(limits)}") from None
        except (BadRequestError, UnprocessableEntityError):
            candidates = []
        if not candidates:
            self._tells_letters = False
            return None
        mass = dict.fromkeys(letters, 0.0)
        for token, logprob in candidates:
            if (letter := token.strip(" ().\n▁Ġ")) in mass and logprob <= 0:
                mass[letter] += math.exp(logprob)
        total = sum(mass.values())
        return {letter: value / total for letter, value in mass.items()} if total >= _LEAST_MASS else None

    def _chat(self, messages: Sequence[Message], limits: Limits, schema: dict[str, Any] | None, heard: _Heard) -> Finish:
        """Why the reply that `heard` has taken in ended."""
        request: dict[str, Any] = {"messages": [_as_json(message) for message in messages], "max_tokens": limits.tokens, "temperature": 0.0}
        if limits.stop:
            request["stop"] = list(limits.stop)
        if schema is not None and self._takes_schema:
            from openai import BadRequestError, UnprocessableEntityError

            structured = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            try:
                with self._explained(limits, let=(BadRequestError, UnprocessableEntityError)):
                    return self._complete(request | {"response_format": structured}, limits, heard)
            except (BadRequestError, UnprocessableEntityError):  # it may be the schema; without it the tolerant parser has more to do
                self._takes_schema = False
        with self._explained(limits):
            return self._complete(request, limits, heard)

    def _complete(self, request: dict[str, Any], limits: Limits, heard: _Heard) -> Finish:
        if heard.on_text is not None:
            finish = self._stream(request, limits, heard)
            if heard.text or heard.enough.is_set() or finish != "stop":
                return finish
        choice = _first_choice(self._ask(request, limits))  # also for servers that cannot stream
        heard.take(_text_of((choice.get("message") or {}).get("content")))
        return "length" if choice.get("finish_reason") == "length" or heard.full else "stop"

    def _stream(self, request: dict[str, Any], limits: Limits, heard: _Heard) -> Finish:
        end = time.monotonic() + limits.seconds
        finish: Finish = "stop"
        with self._attempt(lambda: self._create(self._client.chat.completions, request | {"stream": True}, limits)) as chunks:
            try:
                for chunk in chunks:
                    if chunk.choices:
                        heard.take(_text_of(chunk.choices[0].delta.content))
                        if chunk.choices[0].finish_reason == "length":
                            finish = "length"
                    if heard.full or heard.enough.is_set():
                        return "length"
                    if time.monotonic() > end:
                        return "time"
            except Exception as error:
                if not heard.text or not _is_a(error, "TimeoutException", "APITimeoutError"):
                    raise
                return "time"  # it fell silent in the middle; what has come is kept
        return finish

    def _ask(self, request: dict[str, Any], limits: Limits) -> Any:
        """The server's JSON as it is, unlike the client's own objects, which take any shape for the right one."""
        return self._attempt(lambda: self._create(self._client.chat.completions.with_raw_response, request, limits)).http_response.json()

    def _create(self, completions: Any, request: dict[str, Any], limits: Limits) -> Any:
        return completions.create(model=self._find_model(limits), timeout=limits.seconds, **request)

    def _find_model(self, limits: Limits) -> str:
        if self._model is None:
            from openai import InternalServerError, NotFoundError

            try:
                data = self._client.models.with_raw_response.list(timeout=min(30.0, limits.seconds)).http_response.json()
            except (InternalServerError, NotFoundError) as error:
                raise VlmError(f"{self.url}: lists no models ({error.status_code}); name the model as {self.url}#MODEL") from error
            names = [str(model["id"]) for model in data["data"]]
            if len(names) != 1:
                known = ", ".join(names[:8]) or "none"
                raise VlmError(f"{self.url}: expected a server of one model, it lists {known}; name one as {self.url}#MODEL")
            self._model = names[0]
        return self._model

    def _attempt(self, call: Callable[[], Any]) -> Any:
        """The call's result; tried again where that may help."""
        from openai import APIConnectionError, APITimeoutError, InternalServerError, RateLimitError

        for number in range(self._retries + 1):
            try:
                return call()
            except APITimeoutError:
                raise
            except (APIConnectionError, RateLimitError, InternalServerError) as error:
                if number == self._retries:
                    raise
                time.sleep(_pause(error, number))
        raise AssertionError("unreachable")

    def _explained(self, limits: Limits, let: tuple[type[Exception], ...] = ()) -> _Explained:
        return _Explained(self, limits, let)


class _Explained:
    """Turns what the client raises into a VlmError that says what to do; exceptions of the types `let` pass as they are."""

    def __init__(self, backend: ServerBackend, limits: Limits, let: tuple[type[Exception], ...]) -> None:
        self.backend, self.limits, self.let = backend, limits, let

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import openai

        if error is None or isinstance(error, (VlmError, *self.let)):
            return
        name = self.backend.name
        if isinstance(error, openai.APITimeoutError) or _is_a(error, "TimeoutException"):
            why = _too_slow(self.limits)
        elif isinstance(error, openai.APIConnectionError) or _is_a(error, "TransportError"):
            why = f"cannot be reached ({error.__cause__ or error}); start the server, or check the URL"
        elif isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            key = f"the key in {KEY} was refused" if self.backend._has_key else f"it wants a key; put it into the environment as {KEY}"
            why = f"denies access ({error.status_code}): {key}"
        elif isinstance(error, openai.NotFoundError):
            why = f"knows no such model or address (404): {_first_line(error)}; name the model as {self.backend.url}#MODEL"
        elif isinstance(error, openai.APIStatusError):
            reason = f"refused the question ({error.status_code}): {_first_line(error)}"
            why = f"{reason}; it may not have this model, or take fewer or smaller pictures"
        elif isinstance(error, (openai.OpenAIError, ValueError, TypeError, LookupError, AttributeError)):  # it has another shape
            why = f"sent an answer that is no JSON of the API: {_first_line(error)}; check that the URL is that of an API (.../v1)"
        else:
            return
        raise VlmError(f"{name}: {why}") from error


class _Heard:
    """What has been said so far, and whether anybody still listens; shared by the thread that reads and the one that waits."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self.on_text = on_text
        self.enough = threading.Event()
        self.text = ""

    @property
    def full(self) -> bool:
        """Whether the text has the length at which a reply ends."""
        return len(self.text) >= _LONGEST_REPLY

    def take(self, piece: str) -> None:
        """Take a piece in and pass it on."""
        piece = cleaned(piece)[: _LONGEST_REPLY - len(self.text)]
        if not piece or self.enough.is_set():
            return
        self.text += piece
        if self.on_text is not None:
            self.on_text(piece)


def _within(seconds: float, work: Callable[[], T]) -> T:
    """The work's result; a server that trickles can hold up the reading for ever, so it is done in a thread that can be left behind.

    Raises:
        TimeoutError: it takes longer.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if failures:
        raise failures[0]
    return results[0]


def _first_choice(data: Any) -> dict[str, Any]:
    """The first choice of a completion; empty where the server offers none.

    Raises:
        ValueError: this is no completion.
    """
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("expected a chat completion, got something else")
    return choices[0] if choices else {}


def _text_of(content: Any) -> str:
    """The text of a message, which may come in parts.

    Raises:
        ValueError: it is no text.
    """
    if isinstance(content, list):
        return "".join(_text_of(part.get("text")) for part in content if isinstance(part, dict))
    if content is None or isinstance(content, str):
        return content or ""
    raise ValueError(f"expected text, got {type(content).__name__}")


def _too_slow(limits: Limits) -> str:
    return f"gave no answer within {limits.seconds:g} s; raise the limit (--time-limit), or use a smaller model or fewer pictures"


def _keep_known_headers(request: Any) -> None:
    """Take off what the client adds from its own environment variables, meant for another host: organisation, project, custom headers."""
    for name in set(request.headers) - _HEADERS:
        del request.headers[name]


def _as_json(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": "\n\n".join(str(part) for part in message.parts)}
    return {
        "role": message.role,
        "content": [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": data_url(part)}}
            for part in message.parts
        ],
    }


def data_url(image: np.ndarray) -> str:
    """uint8 (H, W, 3) as a PNG in a data URL; as a JPEG where that PNG has more than 1 MB."""
    from PIL import Image

    picture, kind = Image.fromarray(image), "png"
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    if stream.tell() > _PNG_LIMIT:
        stream, kind = io.BytesIO(), "jpeg"
        picture.save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _pause(error: Any, number: int) -> float:
    """Seconds to wait: what the server asks for, else 0.5, 1, 2 ..."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    seconds = float(asked) if asked.isdecimal() else 0.5 * 2**number
    return min(seconds, _LONGEST_PAUSE)


def _is_a(error: BaseException, *names: str) -> bool:
    """Whether an error is of a class of one of these names: versions of the client bring different HTTP libraries, whose classes have the
    same names, and let their errors through while a reply streams."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
