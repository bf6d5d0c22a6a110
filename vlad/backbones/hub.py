"""Where model weights come from: the local cache first, then the hub, and a clear answer within seconds when neither has them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlad.disk import FULL
from vlad.errors import BackboneError, WeightsNotFoundError


class NotInRepositoryError(WeightsNotFoundError):
    """The hub was reached, and the repository holds no such file."""


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


def fetch_file(
    repo: str,
    names: Sequence[str],
    *,
    what: str,
    cache_dir: str | Path | None = None,
    whole: bool = False,
    by_file: str = "ARCHITECTURE",
) -> Path:
    """The first of `names` that the cache or the hub holds for `repo`; a download shows its progress, goes on after a cut connection, and
    is compared with the hash that the hub states. With `whole` the advice is to fetch the whole repository, because its weights are not
    all that is needed; `by_file` is what goes before a file in the name of a model.

    Raises:
        WeightsNotFoundError: neither has it, or the hub cannot be reached or does not give it; the message says what to do.
    """
    if path := cached_file(repo, names, cache_dir):
        return path
    command = f"    hf download {repo}{'' if whole else f' {names[0]}'}\n"
    advice = (
        f"Fetch them where the hub can be reached:\n{command}"
        "and copy that cache folder here (or set HF_HUB_CACHE to it), or give a file: "
        f"AnomalyDetector.from_pretrained('{by_file}', pretrained='FILE'), on the command line {by_file}:FILE as the model."
    )
    reason, kind = why_unreachable(), WeightsNotFoundError
    if reason is None:
        found = _download(repo, names, cache_folder(cache_dir))
        if isinstance(found, Path):
            return found
        reason, advice, kind = found.reason, found.advice or advice, found.error
    raise kind(f"the weights of {what} are not in the cache folder {cache_folder(cache_dir)}, and {reason}.\n{advice}")


@dataclass(frozen=True)
class Refusal:
    """Why the hub gives no file, and what to do; "" for what always helps."""

    reason: str
    advice: str
    error: type[WeightsNotFoundError] = WeightsNotFoundError


def _download(repo: str, names: Sequence[str], cache: Path) -> Path | Refusal:
    """The first of `names` that the hub holds, or why it gives none."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    for name in names:
        try:
            path = Path(hf_hub_download(repo, name, cache_dir=cache))
        except RepositoryNotFoundError as error:  # of which a gated one is a kind
            return why_refused(repo, error) or _broken(repo, error, cache)
        except LocalEntryNotFoundError as error:  # a kind of the next, for a hub that does not answer any more
            return _broken(repo, error.__cause__ or error, cache)
        except EntryNotFoundError:
            continue
        except Exception as error:  # whatever goes wrong in a download is told, and nothing is lost by it
            return _broken(repo, error, cache)
        if not _is_as_stated(path):
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            again = "It was deleted; run this again, and if it comes damaged again, ask who runs the network between here and the hub."
            return Refusal(f"{name} from {repo} came damaged: its hash is not the one that the hub states", again)
        return path
    advice = f"Look at {constants.ENDPOINT}/{repo}: if they were moved, give their new place as the model."
    return Refusal(f"the repository {repo} holds none of {', '.join(names)}", advice, NotInRepositoryError)


def why_refused(repo: str, error: BaseException) -> Refusal | None:
    """Why the hub does not give a repository; None if that is not what an error is about."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    page = f"{constants.ENDPOINT}/{repo}"
    sign_in = "run `hf auth login` (or set HF_TOKEN) with an account that may read it"
    causes = _chain(error)
    if any(isinstance(one, GatedRepoError) for one in causes):
        reason = f"the repository {repo} is open only to those who have accepted its terms"
        return Refusal(reason, f"Accept them at {page}, then {sign_in}, and run this again.")
    if any(isinstance(one, RepositoryNotFoundError) for one in causes):
        advice = f"Look at {page}: if it was moved, give its new name as the model; if it is private, {sign_in}."
        return Refusal(f"there is no repository {repo}, or it is private", advice)
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it came from."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


def _broken(repo: str, error: BaseException, cache: Path) -> Refusal:
    """Why a download into the folder `cache` failed."""
    chain = _chain(error)
    if {one.errno for one in chain if isinstance(one, OSError)} & set(FULL):
        advice = f"Free some room, or choose a cache on another disk than {cache} (HF_HUB_CACHE, cache_dir), and run this again."
        return Refusal(f"the disk is full or a quota is used up while {repo} comes", advice)
    if any("Timeout" in type(one).__name__ for one in chain):
        advice = "Run this again when the network is better; HF_HUB_DOWNLOAD_TIMEOUT waits longer."
        return Refusal(f"the hub stopped sending while {repo} came", advice)
    return Refusal(f"the download from {repo} failed: {type(error).__name__}: {error}", "")


def _is_as_stated(path: Path) -> bool:
    """Whether a file of the cache has the hash that its blob is named by: SHA-256 of large files, that of Git of small ones."""
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return True
    with blob.open("rb") as file:
        if len(blob.name) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == blob.name
