"""The layout of a prompt set, checked: every fault of the data, each with its place."""

import re
from collections.abc import Iterator

from vlad.errors import PromptError
from vlad.prompts.files import Place, type_names
from vlad.prompts.nouns import noun

MAX_TEXT = 200  # characters of one state or template
MAX_SENTENCES = 4096  # per side; text encoders take minutes beyond it on a CPU

Fault = tuple[Place, str]
required = ("name", "description", "source", "version", "states", "templates")
optional = ("class_name", "overrides")
sides = ("normal", "anomalous")
override_keys = ("normal", "anomalous", "extra_normal", "extra_anomalous")
README = "see prompts/README.md"


def check(data: object, *, finished: bool = False) -> list[Fault]:
    """Every fault of a prompt set given as plain data, in the order of the layout; none means that the set is sound.

    `finished` is for sets of finished sentences, which have no templates, and whose sentences may repeat: a repetition is a weight.
    """
    return list(_faults(data, finished))


def _faults(data: object, finished: bool) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield (), f"expected a mapping with the keys {', '.join(required)}, got {_kind(data)}: {README}"
        return
    yield from _keys(data, (), required, optional)
    for key in ("name", "description", "source", "class_name"):
        if key in data:
            yield from _text(data[key], (key,))
    if isinstance(data.get("name"), str) and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", data["name"]):
        yield ("name",), f"expected a name of lower-case letters, digits, - and _, got {data['name']!r}: rename the set"
    if "version" in data and (type(data["version"]) is not int or data["version"] < 1):
        yield ("version",), f"expected a whole number from 1 on, got {_shown(data['version'])}: write `version: 1`"
    if isinstance(data.get("class_name"), str):
        yield from _class_name(data["class_name"], ("class_name",))

    states = data.get("states", {})
    if not isinstance(states, dict):
        yield ("states",), f"expected a mapping with the lists normal and anomalous, got {_kind(states)}: {README}"
        states = {}
    elif "states" in data:
        yield from _keys(states, ("states",), sides, ())

    templates = data.get("templates", [])
    if "templates" in data and not (finished and templates == []):
        yield from _texts(templates, ("templates",), "{state}", needed=True)
    yield from _sides(states, ("states",), {}, finished)
    yield from _doubled_articles(states, ("states",), templates)
    yield from _too_many(states, ("states",), {}, templates)
    yield from _overrides(data.get("overrides", {}), states, templates, finished)


def _overrides(overrides: object, base: dict[str, object], templates: object, finished: bool) -> Iterator[Fault]:
    if not isinstance(overrides, dict):
        yield ("overrides",), f"expected a mapping from class names to states, got {_kind(overrides)}: {README}"
        return
    seen: dict[str, str] = {}
    for name, states in overrides.items():
        place: Place = ("overrides", name)
        faults = list(_class_name(name, place))
        yield from faults
        if not faults and noun(name) in seen:
            yield place, f"expected each class once, got {name!r} and {seen[noun(name)]!r}, both {noun(name)!r}: merge the two"
        elif not faults:
            seen[noun(name)] = name
        if not isinstance(states, dict) or not states:
            yield place, f"expected a mapping with any of {', '.join(override_keys)}, got {_kind(states)}: {README}"
            continue
        yield from _keys(states, place, (), override_keys)
        for side in sides:
            if side in states and f"extra_{side}" in states:
                yield (*place, f"extra_{side}"), f"expected {side} (replaces) or extra_{side} (adds), got both: keep one"
        yield from _sides(states, place, base, finished)
        yield from _doubled_articles(states, place, templates)
        yield from _too_many(states, place, base, templates)


def _sides(states: dict[str, object], place: Place, base: dict[str, object], finished: bool) -> Iterator[Fault]:
    """Faults of the lists of states; `base` is what an override builds on."""
    for key in override_keys:
        if key in states:
            yield from _texts(states[key], (*place, key), "{class_name}", repeats=finished)
    normal = {_folded(text) for text in _effective(states, base, "normal")}
    inherited = {_folded(text) for text in _strings(base.get("anomalous"))} if "anomalous" not in states else set()
    for key in override_keys:
        for i, text in enumerate(_strings(states.get(key))):
            if text and _folded(text) in (normal if key.endswith("anomalous") else inherited):
                yield (*place, key, i), f"expected a state on one side only, got {text!r} as normal and as anomalous: remove one"


def _effective(states: dict[str, object], base: dict[str, object], side: str) -> list[str]:
    return _strings(states.get(side, base.get(side))) + _strings(states.get(f"extra_{side}"))


def _keys(data: dict[str, object], place: Place, needed: tuple[str, ...], allowed: tuple[str, ...]) -> Iterator[Fault]:
    for key in data:
        if key not in needed + allowed:
            yield (*place, key), f"expected one of the keys {', '.join(needed + allowed)}, got {key!r}: rename or remove it"
    for key in needed:
        if key not in data:
            yield place, f"expected the key {key!r}{' in ' + dotted(place) if place else ''}, got none: add it, {README}"


def _texts(value: object, place: Place, placeholder: str, *, needed: bool = False, repeats: bool = False) -> Iterator[Fault]:
    if not isinstance(value, list | tuple):
        yield place, f"expected a list of texts, got {_kind(value)}: put each text on a line of its own after `- `"
        return
    if not value:
        yield place, "expected at least one text, got an empty list: add one"
    seen: dict[str, int] = {}
    for i, text in enumerate(value):
        faults = list(_text(text, (*place, i))) or list(_braces(text, (*place, i), placeholder, needed))
        yield from faults
        if faults:
            continue
        if _folded(text) in seen and not repeats:
            yield (*place, i), f"expected each text once, got {text!r} again (already number {seen[_folded(text)] + 1}): remove one"
        seen.setdefault(_folded(text), i)


def _text(value: object, place: Place) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield place, f"expected text, got {_shown(value)}: put it in quotes if it is meant as text"
    elif not value.strip():
        yield place, "expected text, got an empty one: write something or remove it"
    elif len(value) > MAX_TEXT:
        yield place, f"expected at most {MAX_TEXT} characters, got {len(value)}: shorten it"
    elif value != " ".join(value.split()) or not value.isprintable():
        yield place, f"expected one printable line with single spaces, got {value!r}: remove what is too much"


def _braces(text: str, place: Place, placeholder: str, needed: bool) -> Iterator[Fault]:
    rest = text.replace(placeholder, "")
    count = text.count(placeholder)
    if "{" in rest or "}" in rest:
        strange = re.findall(r"\{[^{}]*\}|[{}]", rest)[0]
        yield place, f"expected no placeholder but {placeholder}, got {strange!r} in {text!r}: replace or remove it"
    elif count > 1 or (needed and not count):
        yield place, f"expected {placeholder} {'once' if needed else 'at most once'}, got it {count} times in {text!r}: mend the text"


def _doubled_articles(states: dict[str, object], place: Place, templates: object) -> Iterator[Fault]:
    determined = [template for template in _strings(templates) if re.search(r"\b(?:an?|the) (?:[\w-]+ )?\{state\}", template, re.I)]
    for key in override_keys if determined else ():
        for i, state in enumerate(_strings(states.get(key))):
            if re.match(r"(?:an?|the) ", state, re.I):
                message = f"expected a state without an article, got {state!r} for the template {determined[0]!r}: remove one of the two"
                yield (*place, key, i), message


def _too_many(states: dict[str, object], place: Place, base: dict[str, object], templates: object) -> Iterator[Fault]:
    for side in sides:
        count = len(_effective(states, base, side)) * max(1, len(_strings(templates)))
        if count > MAX_SENTENCES:
            yield place, f"expected at most {MAX_SENTENCES} {side} sentences, got {count}: drop states or templates"


def _class_name(name: str, place: Place) -> Iterator[Fault]:
    try:
        noun(name)
    except PromptError as error:
        yield place, str(error)


def _strings(value: object) -> list[str]:
    """The texts of a list, "" in place of anything else, so that positions stay right; nothing when it is no list."""
    return [text if isinstance(text, str) else "" for text in value] if isinstance(value, list | tuple) else []


def _folded(text: str) -> str:
    """Two texts that differ in case or in a against an are one sentence in the end."""
    return re.sub(r"\ban\b", "a", text.casefold())


def _kind(value: object) -> str:
    return type_names.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    return f"{_kind(value)} ({value!r})" if isinstance(value, str | int) else _kind(value)


def dotted(place: Place) -> str:
    """A place in words: `states.normal[2]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
