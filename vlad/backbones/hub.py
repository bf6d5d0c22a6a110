"""Where model weights come from: the local cache first, then the hub, and a clear answer within seconds when neither has them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from vlad.errors import BackboneError, WeightsNotFoundError

CONNECT_SECONDS = 2.0  # the hub client's own retries take forty


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """The hub cache in use: `cache_dir`, else HF_HUB_CACHE, else HF_HOME/hub, else the hub client's default."""
    from huggingface_hub import constants

    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def cached_file(repo: str, names: Sequence[str], cache_dir: str | Path | None = None) -> Path | None:
    """The first of `names` that the cache holds for `repo`, or None. Never touches the network.

    Raises:
        BackboneError: `repo` cannot be the name of a repository.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in names:
        try:
            path = try_to_load_from_cache(repo, name, cache_dir=cache_folder(cache_dir))
        except HFValidationError as error:
            raise BackboneError(f"{repo!r} is no hub repository ({error}); expected ORG/REPO") from error
        if isinstance(path, str):
            return Path(path)
    return None


def why_unreachable() -> str | None:
    """None if the hub answers within `CONNECT_SECONDS`, else the reason in words."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return "HF_HUB_OFFLINE is set"
    session = get_session()  # here, so that its imports do not count as waiting
    answer: list[str | None] = []

    def connect() -> None:
        try:
            session.head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
            answer.append(None)
        except Exception as error:  # whatever goes wrong here is the answer, not a failure
            answer.append(f"{constants.ENDPOINT} does not answer: {type(error).__name__}")

    # A thread, because looking up a host name obeys no time-out of the HTTP client.
    thread = threading.Thread(target=connect, name="vlad-hub-probe", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS + 0.3)
    return answer[0] if answer else f"{constants.ENDPOINT} did not answer within {CONNECT_SECONDS:.0f} s"


def fetch_file(repo: str, names: Sequence[str], *, what: str, cache_dir: str | Path | None = None, whole: bool = False) -> Path:
    """The first of `names` that the cache or the hub holds for `repo`; a download shows its progress. With `whole` the advice is to
    fetch the whole repository, because its weights are not all that is needed.

    Raises:
        WeightsNotFoundError: neither has it, or the hub cannot be reached; the message gives the command that fetches it.
    """
    if path := cached_file(repo, names, cache_dir):
        return path
    reason = why_unreachable()
    if reason is None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        for name in names:
            try:
                return Path(hf_hub_download(repo, name, cache_dir=cache_folder(cache_dir)))
            except EntryNotFoundError:
                reason = f"the repository {repo} holds none of {', '.join(names)}"
            except Exception as error:
                reason = f"the download from {repo} failed: {type(error).__name__}: {error}"
                break
    raise WeightsNotFoundError(
        f"the weights of {what} are not in the cache folder {cache_folder(cache_dir)}, and {reason}.\n"
        f"Fetch them where the hub can be reached:\n    hf download {repo}{'' if whole else f' {names[0]}'}\n"
        "and copy that cache folder here (or set HF_HUB_CACHE to it), or give a file: "
        "AnomalyDetector.from_pretrained('ARCHITECTURE', pretrained='FILE'), on the command line --model ARCHITECTURE:FILE."
    )
