"""What a service found, appended to an SQLite file and told to a webhook; nothing that was written is lost to a kill."""

from __future__ import annotations

import http.client
import json
import sqlite3
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from vlad.errors import ConfigError, OutputError

_TABLES = """
create table if not exists results (
    id integer primary key, time text not null, model text not null, file text, pred_score real, threshold real, pred_label integer,
    error text, details text not null, told integer not null default 0
)
"""
_FIRST, _LONGEST = 1.0, 300.0  # seconds between attempts; each waits twice as long as the last
_SECONDS = 10.0  # of one attempt
_UNTOLD, _TOLD, _REFUSED = 0, 1, 2
_LATER = (408, 425, 429)  # of the refusals those that pass


class Records:
    """Results in a file, and a thread that tells them to a webhook, oldest first, until it has been heard; after a restart it goes on.

    Args:
        path: the SQLite file, made if missing.
        webhook: URL that gets each result as JSON; None tells nobody.

    Raises:
        OutputError: the file cannot be written.
        ConfigError: the webhook is no http(s) URL.
    """

    def __init__(self, path: Path, webhook: str | None = None) -> None:
        if webhook is not None and not _is_url(webhook):
            raise ConfigError(f"a webhook must be an http or https URL, got {webhook!r}")
        self.path, self.webhook = path, webhook
        self._guard = threading.Lock()
        self._news, self._ending = threading.Event(), threading.Event()
        try:
            with closing(self._open()) as database, database:
                database.execute(_TABLES)
        except sqlite3.Error as error:
            raise OutputError(f"{path}: could not be opened for results ({error}); choose another file") from error
        self._thread = threading.Thread(target=self._tell, name="vlad-webhook", daemon=True)
        if webhook is not None:
            self._thread.start()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append results, each with "time" and "model".

        Raises:
            OutputError: they could not be written.
        """
        keys = ("time", "model", "file", "pred_score", "threshold", "pred_label", "error")
        values = [(*(row.get(key) for key in keys), json.dumps(row, ensure_ascii=False)) for row in rows]
        try:
            with self._guard, closing(self._open()) as database, database:
                database.execute(_TABLES)  # the file may have been moved away, as logs are
                database.executemany(f"insert into results ({', '.join(keys)}, details) values (?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: results could not be written ({error})") from error
        self._news.set()

    @property
    def untold(self) -> int:
        """Results that the webhook has not heard of; 0 without one."""
        return 0 if self.webhook is None else self._count(_UNTOLD)

    @property
    def refused(self) -> int:
        """Results that the webhook has refused for good; 0 without one."""
        return 0 if self.webhook is None else self._count(_REFUSED)

    def _count(self, told: int) -> int:
        try:
            with closing(self._open()) as database:
                (count,) = database.execute("select count(*) from results where told = ?", (told,)).fetchone()
        except sqlite3.Error:
            return 0
        return int(count)

    def close(self) -> None:
        """End the thread; what is untold is told after the next start."""
        self._ending.set()
        self._news.set()
        if self.webhook is not None:
            self._thread.join(timeout=_SECONDS + 1)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)

    def _tell(self) -> None:
        pause = _FIRST
        while not self._ending.is_set():
            self._news.clear()
            try:
                with closing(self._open()) as database:
                    row = database.execute("select id, details from results where told = ? order by id limit 1", (_UNTOLD,)).fetchone()
                if row is None:
                    self._news.wait()
                    continue
                if (state := self._post(row[1])) != _UNTOLD:
                    with self._guard, closing(self._open()) as database, database:
                        database.execute("update results set told = ? where id = ?", (state, row[0]))
                    pause = _FIRST
                    continue
            except sqlite3.Error as error:  # as when the file is moved; what is written next makes it anew
                print(f"vlad: {self.path}: {error}; results wait for the webhook", file=sys.stderr)
            self._ending.wait(pause)
            pause = min(2 * pause, _LONGEST)

    def _post(self, details: str) -> int:
        """What became of it; one that is refused for good must not keep the others waiting."""
        assert self.webhook is not None
        headers = {"Content-Type": "application/json", "User-Agent": "vlad"}
        request = urllib.request.Request(self.webhook, details.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return _TOLD if 200 <= int(answer.status) < 300 else _UNTOLD
        except urllib.error.HTTPError as error:
            if 400 <= error.code < 500 and error.code not in _LATER:
                print(f"vlad: the webhook has refused a result ({error.code}); it is kept as refused", file=sys.stderr)
                return _REFUSED
            return _UNTOLD
        except (OSError, ValueError, http.client.HTTPException):
            return _UNTOLD


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(mark.isspace() for mark in text)
