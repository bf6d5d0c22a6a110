"""A page's stream of answers that stays open while the page does.

Gradio closes it whenever nothing is asked for, and a browser opens it anew with the next press. A press that is sent just while the end is
on its way takes the old stream for open, and its answer waits until the next press: the page seems to hang. So the server always holds one
event open for a browser, and its stream ends with the page.
"""

from __future__ import annotations

from typing import Any

_BROWSER = 16  # letters at most of the name that a browser gives its session; programs' are longer


class Lasting(set[Any]):
    """The events of a browser that wait for an answer; it counts one more than there are."""

    def __len__(self) -> int:
        return super().__len__() + 1

    def __isub__(self, others: Any) -> set[Any]:  # type: ignore[override,misc]
        """What is left when the browser has gone, an ordinary set."""
        return _Left(one for one in self if one not in others)


class _Left(set[Any]):
    """The events of a browser that has gone."""


class Sessions(dict[str, set[Any]]):
    """The events of each session that wait for an answer, as Gradio's queue keeps them."""

    def __setitem__(self, session: str, events: set[Any]) -> None:
        stays = len(session) <= _BROWSER and not isinstance(events, _Left)
        super().__setitem__(session, Lasting(events) if stays else events)
