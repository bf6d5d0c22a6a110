"""Any image-text-to-text model of the transformers library, by hub id or local folder."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlad.backbones.hub import cache_folder, cached_file, why_refused, why_unreachable
from vlad.errors import VlmError
from vlad.untrusted import cleaned
from vlad.vlm.backends.base import Limits, Message, Reply

PRESETS = {
    "smolvlm2": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",  # a small model that a CPU can run
    "qwen3-vl": "Qwen/Qwen3-VL-2B-Instruct",  # better, for a GPU
    "qwen3-vl-4b": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
    "smolvlm2-2b": "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    "gemma3-4b": "google/gemma-3-4b-it",  # open only to those who have accepted Google's terms
}
LICENCES = {"gemma3-4b": "Gemma terms"}  # of the others Apache-2.0
_LEAST_MASS = 0.5  # probability of the letters together below which the model was about to say something else


class LocalBackend:
    """A VLM in this process, see `vlad.vlm.backends.base.VlmBackend`. Replies are greedy: the same question gives the same reply.

    Args:
        source: a preset's name, a hub id or a folder in the hub's file format.
        device: "auto" spreads the model over what there is through accelerate, or a torch device.
        dtype: "auto" takes the checkpoint's, or "float32", "bfloat16", "float16".
        four_bit: load in 4 bits through bitsandbytes, which needs a GPU.
        most_images: pictures that one chat may hold.

    Raises:
        VlmError: the model cannot be found or loaded; the message says why. Code that comes with a model is never run.
    """

    def __init__(
        self, source: str | Path, *, device: str = "auto", dtype: str = "auto", four_bit: bool = False, most_images: int | None = 8
    ) -> None:
        name = PRESETS.get(str(source), str(source))
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise VlmError(f"{name}: needs transformers; pip install 'vlad-anomaly[vlm]'") from error
        _check_reachable(name)
        options: dict[str, Any] = {"dtype": dtype, "device_map": device, "trust_remote_code": False}
        try:
            if four_bit:
                from transformers import BitsAndBytesConfig

                options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True)
            self._processor: Any = AutoProcessor.from_pretrained(name, trust_remote_code=False)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(name, **options).eval()
        except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
            if (refused := why_refused(name, error)) is not None:
                raise VlmError(f"{name}: {refused.reason}. {refused.advice}") from error
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise VlmError(
                f"{name}: expected an image-text-to-text model, by hub id or as a folder, cannot load it: {first}; check the name, get it "
                f"with `hf download {name}`, or name a server's URL"
            ) from error
        if getattr(self._processor, "chat_template", None) is None:
            raise VlmError(f"{name}: expected a model with a chat template, it has none; take one that was trained for chats (-Instruct)")
        self.name = f"{Path(name).name} ({self._model.config.model_type}, transformers)"
        self.most_images = most_images

    def identify(self) -> str:
        """See `VlmBackend.identify`."""
        return self.name

    def chat(
        self,
        messages: Sequence[Message],
        *,
        limits: Limits | None = None,
        schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """See `VlmBackend.chat`; no schema is enforced."""
        import torch
        from transformers import TextIteratorStreamer

        limits = limits or Limits()
        start = time.perf_counter()
        inputs = self._inputs(messages)
        streamer = TextIteratorStreamer(self._processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        watch = _Watch(time.monotonic() + limits.seconds)
        failure: list[BaseException] = []
        n_tokens: list[int] = []

        def write() -> None:
            try:
                with torch.inference_mode():
                    output = self._model.generate(
                        **inputs, max_new_tokens=limits.tokens, do_sample=False, streamer=streamer, stopping_criteria=[watch]
                    )
                n_tokens.append(output.shape[1] - inputs["input_ids"].shape[1])
            except BaseException as error:  # handed to the caller's thread below
                failure.append(error)
                streamer.end()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        text, held, stopped = "", "", False
        try:
            for piece in streamer:
                ready, held, stopped = _split(held + cleaned(piece), limits.stop)
                text += ready
                if on_text is not None and ready:
                    on_text(ready)
                if stopped:
                    break
        finally:
            watch.stop()
            writer.join()
        if held and not stopped:
            text += held
            if on_text is not None:
                on_text(held)
        if failure:
            raise VlmError(f"{self.name}: could not answer: {failure[0]}; fewer or smaller pictures may help") from failure[0]
        finish: Any = "stop"
        if watch.timed_out:
            finish = "time"
        elif not stopped and n_tokens[0] >= limits.tokens:
            finish = "length"
        return Reply(text.strip(), finish, time.perf_counter() - start)

    def letters(self, messages: Sequence[Message], letters: Sequence[str], *, limits: Limits | None = None) -> dict[str, float] | None:
        """See `VlmBackend.letters`; from the logits of the next token, each letter with and without a space before it. None where the
        letters together are not the likelier half of what it would say."""
        import torch

        tokens: dict[str, list[int]] = {}
        for letter in letters:
            encoded = [self._processor.tokenizer(form, add_special_tokens=False)["input_ids"] for form in (letter, f" {letter}")]
            tokens[letter] = sorted({ids[0] for ids in encoded if len(ids) == 1})
        if not all(tokens.values()):
            return None
        try:
            with torch.inference_mode():
                chances = self._model(**self._inputs(messages)).logits[0, -1].float().softmax(dim=0)
        except (RuntimeError, ValueError, IndexError) as error:
            raise VlmError(f"{self.name}: could not answer: {error}; fewer or smaller pictures may help") from error
        mass = {letter: float(chances[ids].sum()) for letter, ids in tokens.items()}
        total = sum(mass.values())
        return {letter: value / total for letter, value in mass.items()} if total >= _LEAST_MASS else None

    def _inputs(self, messages: Sequence[Message]) -> Any:
        """Tokens and pixels of a chat, on the model's device."""
        from PIL import Image

        chat = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": Image.fromarray(part)}
                    for part in message.parts
                ],
            }
            for message in messages
        ]
        try:
            inputs = self._processor.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        except (ValueError, TypeError, IndexError) as error:
            raise VlmError(f"{self.name}: cannot read this chat: {error}; fewer or smaller pictures may help") from error
        return inputs.to(self._model.device, dtype=self._model.dtype)


def _check_reachable(name: str) -> None:
    """Say at once what the library would only say after minutes of trying.

    Raises:
        VlmError: the name is neither a folder, nor of the form of a hub id, nor in the cache while the hub cannot be reached.
    """
    if Path(name).is_dir():
        return
    known = ", ".join(PRESETS)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise VlmError(
            f"{name!r}: expected a vision-language model by name ({known}), hub id (OWNER/NAME), folder or URL (http://...); correct it"
        )
    if cached_file(name, ["config.json"]) is None and (why := why_unreachable()):
        raise VlmError(
            f"{name}: it is not in the cache folder {cache_folder()}, and the hub cannot be asked ({why}); fetch it elsewhere with "
            f"`hf download {name} --local-dir FOLDER` and name the folder, or name a server's URL"
        )


class _Watch:
    """Ends the writing when its time is over, or when the reader has enough; called after every token."""

    def __init__(self, end: float) -> None:
        self._end, self._enough = end, threading.Event()
        self.timed_out = False

    def stop(self) -> None:
        self._enough.set()

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        if not self._enough.is_set() and time.monotonic() > self._end:
            self.timed_out = True
        over = self.timed_out or self._enough.is_set()
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)


def _split(text: str, stop: Sequence[str]) -> tuple[str, str, bool]:
    """Text that can be shown, text to hold back because a stop text may begin in it, and whether a stop text was found."""
    found = min((at for word in stop if (at := text.find(word)) >= 0), default=-1)
    if found >= 0:
        return text[:found], "", True
    n_held = max((n for word in stop for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
    return text[: len(text) - n_held], text[len(text) - n_held :], False
