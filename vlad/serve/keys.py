"""Keys of clients, of which a file holds the hashes alone: one line each, NAME and the SHA-256 of the key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from vlad.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})")


def new_key(name: str) -> tuple[str, str]:
    """A key to hand out, and the line that goes into the file.

    Raises:
        ConfigError: the name has other signs than letters, digits, '.', '_' and '-'.
    """
    key = secrets.token_urlsafe(32)
    line = f"{name} {_hashed(key)}"
    if not _LINE.fullmatch(line):
        raise ConfigError(f"a key is called by letters, digits, '.', '_' and '-', got {name!r}")
    return key, line


class Keys:
    """The keys of a file.

    Raises:
        ConfigError: it cannot be read, or a line is none.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: the keys cannot be read ({error})") from error
        self._known: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ConfigError(f"{path}:{number}: expected NAME and 64 hexadecimal digits; `vlad serve --new-key NAME` makes a line")
            self._known[found[1]] = found[2]
        if not self._known:
            raise ConfigError(f"{path} holds no key; `vlad serve --new-key NAME` makes a line")

    def owner(self, key: str) -> str | None:
        """Whose key it is; None if nobody's. Takes as long for every key."""
        hashed, found = _hashed(key), None
        for name, known in self._known.items():
            if hmac.compare_digest(hashed, known):
                found = name
        return found


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
