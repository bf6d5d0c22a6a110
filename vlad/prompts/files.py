"""Reads the YAML files of `prompts/` as plain data that remembers its lines; no tag, no alias and no object is ever built."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from vlad.errors import PromptError

MAX_BYTES = 128 * 1024
MAX_DEPTH = 8

type_names = {
    str: "text",
    int: "a whole number",
    bool: "true/false",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
Place = tuple[str | int, ...]  # where a value sits in the data: ("states", "normal", 3)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a prompt file; `str()` gives `path:line: what was expected, what came, what to do`."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class ProblemsFound(PromptError):
    """A prompt file is wrong; `problems` has all there is to say, the message the first of it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        rest = f" (and {len(problems) - 1} more: `vlad prompts check {problems[0].path}` lists them)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{rest}")


def data_folder() -> Path:
    """The folder of shipped prompts: inside the package in a wheel, beside it in a source tree or an editable install."""
    package = Path(__file__).resolve().parent.parent
    # The wheel's own place comes first: beside an installed package, `prompts` could be anybody's.
    for folder in (package / "_prompts", package.parent / "prompts"):
        if (folder / "class_names.yaml").is_file():
            return folder
    raise PromptError(
        f"expected the shipped prompts in {package / '_prompts'} or {package.parent / 'prompts'}, found neither: install vlad-anomaly again"
    )


def read_yaml(path: Path) -> tuple[object, dict[Place, int]]:
    """The data of one YAML file (text, numbers, lists and mappings with text keys) and the line of every value.

    Raises ProblemsFound for anything that is not plain, finite YAML: tags, anchors, aliases, repeated keys, bad UTF-8, too large, too deep.
    """
    text = _read_text(path)
    try:
        _refuse_machinery(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise _failure(path, mark.line + 1 if mark else 1, f"expected YAML, but {what}: mend the line or put its text in quotes") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _failure(path, line, f"expected printable text, got the character U+{ord(text[error.position]):04X}: remove it") from None
    except ProblemsFound:
        raise
    except (ValueError, OverflowError) as error:  # PyYAML turns escapes such as \UFFFFFFFF into characters unchecked
        raise _failure(
            path, 1, f"expected YAML, but an escape or number in it has no meaning ({error}): write the character itself"
        ) from None
    if root is None:
        raise _failure(path, 1, "expected a prompt set, got an empty file: see prompts/README.md for an example")
    problems: list[Problem] = []
    lines: dict[Place, int] = {}
    data = _plain(root, (), lines, problems, str(path))
    if problems:
        raise ProblemsFound(problems)
    return data, lines


def _failure(path: Path, line: int, message: str) -> ProblemsFound:
    return ProblemsFound([Problem(str(path), line, message)])


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise PromptError(f"{path}: expected a YAML file, got a folder or a device: name the file itself")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, PromptError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise PromptError(f"{path}: expected a readable YAML file, got: {reason}; check the path") from error
    if len(raw) > MAX_BYTES:
        raise _failure(path, 1, f"expected at most {MAX_BYTES // 1024} KiB, got more: split the set")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _failure(path, line, f"expected UTF-8, got the byte 0x{raw[error.start]:02X}: save the file as UTF-8") from None


def _refuse_machinery(path: Path, text: str) -> None:
    """Looks at the flat event stream, which costs no memory and no recursion, before any tree is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1  # type: ignore[union-attr]  # marks are there unless events are made by hand
        if anchor := getattr(event, "anchor", None):  # an alias carries the name of its anchor
            raise _failure(path, line, f"expected plain text, got the YAML anchor or alias {anchor!r}: write the text out, or quote it")
        if tag := getattr(event, "tag", None):
            raise _failure(path, line, f"expected plain text, got the YAML tag {tag!r}: remove the tag, or quote the text")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _failure(path, line, f"expected at most {MAX_DEPTH} nested levels, got more: see prompts/README.md for the layout")


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int], problems: list[Problem], path: str) -> object:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*place, i), lines, problems, path) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _plain(key_node, (*place, "?"), {}, problems, path)
            if not isinstance(key, str):
                problems.append(
                    Problem(path, line, f'expected a key that is text, got {type_names[type(key)]}: put it in quotes, as in "01":')
                )
            elif key in data:
                problems.append(Problem(path, line, f"expected each key once, got {key!r} again: merge the two"))
            else:
                data[key] = _plain(value_node, (*place, key), lines, problems, path)
                lines[(*place, key)] = line
        return data
    return _scalar(node)


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    match node.tag.rpartition(":")[2]:
        case "int" if node.value.isdecimal() and len(node.value) < 10:
            return int(node.value)
        case "int" | "float":
            return float("nan")  # its value is never used: no key takes one
        case "bool":
            return str(node.value).lower() in ("true", "yes", "on")
        case "null":
            return None
    return str(node.value)  # also dates, which are text to us
