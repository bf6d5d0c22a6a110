"""Fitted detectors in a repository of the model hub.

A repository holds what `save` writes, a README.md for people, and `vlad_detector.json` with the names and hashes of the files, by which it
is told from a repository of a model's weights.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from vlad.disk import sha256_of
from vlad.errors import ConfigError, VladError, WeightsNotFoundError
from vlad.untrusted.values import parse_json

INDEX = "vlad_detector.json"
_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_FILE = re.compile(r"[a-z_]{1,40}\.(json|safetensors|html)")


def is_repository(name: str | Path) -> bool:
    """Whether a name could be that of a repository, ORG/REPO, and is no folder of this machine."""
    return isinstance(name, str) and _REPOSITORY.fullmatch(name) is not None and not Path(name).exists()


def push(detector: Any, repo: str, *, private: bool, token: str | None, message: str) -> str:
    """Write a detector into a repository, made if missing, and return its address; see `AnomalyDetector.push_to_hub`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if _REPOSITORY.fullmatch(repo) is None:
        raise ConfigError(f"{repo!r} is no name of a repository; expected ORG/REPO")
    with tempfile.TemporaryDirectory(prefix="vlad-push-") as place:
        folder = detector.save(place)
        files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if _FILE.fullmatch(path.name)}
        (folder / INDEX).write_text(json.dumps({"format": "vlad-detector", "files": files}, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_card(detector, repo), encoding="utf-8", errors="backslashreplace")
        api = HfApi(token=token)
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message, allow_patterns=[*files, INDEX, "README.md"])
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            what = "see that you are signed in (`hf auth login`) and may write there"
            raise VladError(f"{repo}: could not be written ({error}); {what}") from error
    return f"{api.endpoint}/{repo}"


def fetch(repo: str, cache_dir: str | Path | None) -> Path | None:
    """The folder of a detector that a repository holds, from the cache or the hub; None if it holds none, or neither can tell.

    Raises:
        ConfigError: its list of files is damaged, or a file is not as the list says.
        WeightsNotFoundError: a file of the list cannot be had.
    """
    from vlad.backbones.hub import cache_folder, cached_file, fetch_file

    index = cached_file(repo, [INDEX], cache_dir)
    if index is None:
        if any((cache_folder(cache_dir) / f"models--{repo.replace('/', '--')}" / "snapshots").glob("*/*")):
            return None  # a model's weights are there, for which nobody should wait for the hub
        try:
            index = fetch_file(repo, [INDEX], what=repo, cache_dir=cache_dir)
        except WeightsNotFoundError:  # whoever looks for a model's weights there says what is missing
            return None
    try:
        files = parse_json(index.read_bytes())["files"]
        listed = {str(name): str(sha256) for name, sha256 in files.items()}
        if not listed or not all(map(_FILE.fullmatch, listed)):
            raise ValueError(f"it lists {', '.join(listed) or 'nothing'}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{repo}: its {INDEX} is damaged ({error}); push the detector again") from error
    for name, sha256 in listed.items():
        path = fetch_file(repo, [name], what=repo, cache_dir=cache_dir)
        if sha256_of(path) != sha256:
            again = f"delete {path.parent} and fetch it again, or push it again"
            raise ConfigError(f"{repo}: {name} is not the file that {INDEX} lists; {again}")
    return index.parent


def _card(detector: Any, repo: str) -> str:
    """What the repository says to people: from what the detector was made, and how it is used."""
    memory = detector.memory
    made_of = "words alone" if memory is None else f"{len(memory.references)} normal pictures"
    return (
        f"---\nlibrary_name: vlad\ntags: [anomaly-detection]\n---\n\n# {repo.rpartition('/')[2]}\n\n"
        f"A detector of visual anomalies of `vlad`: {detector.model_name}, from {made_of}; the pictures themselves are not in it.\n\n"
        f'```python\nfrom vlad import AnomalyDetector\n\ndetector = AnomalyDetector.from_pretrained("{repo}")\n'
        'print(detector.predict("part.png"))\n```\n\n'
        "How often it is right has to be measured on pictures of your own (`vlad eval`, `vlad calibrate`).\n"
    )
