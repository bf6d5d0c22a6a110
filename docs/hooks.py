"""Files that stand elsewhere in the repository, as part of the site: what was measured, the pictures, and a few pages beside the code.

Pages link to them as they lie (`../eval/results/few_shot.md`), so that the links work where the repository is read as well. At build they
are taken from there into `files/`, and the links are turned to it; nothing is copied into the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
TAKEN = (
    "eval/results/*.md", "eval/README.md", "prompts/README.md", "vlad/backbones/lite/README.md", "SECURITY.md", "CONTRIBUTING.md",
    "demos/*.png", "demos/overlays.jpg", "demos/README.md", "demos/examples/README.md",
)  # fmt: skip
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add them."""
    for pattern in TAKEN:
        for path in sorted(ROOT.glob(pattern)):
            where = f"files/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, where, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn links to files of the repository to where they are on the site. A taken page's link to a file that is not taken becomes its
    text; in a page of docs/ it stays as it is, for the build to complain about."""
    here = PurePosixPath(page.file.src_uri)
    is_taken = here.parts[0] == "files"
    folder = posixpath.dirname(str(here.relative_to("files") if is_taken else PurePosixPath("docs") / here))

    def turned(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        uri = path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
        if files.get_file_from_path(uri) is None:
            return text if is_taken else match[0]
        return f"{mark}[{text}]({posixpath.relpath(uri, posixpath.dirname(str(here)) or '.')}{anchor or ''})"

    return _LINK.sub(turned, markdown)
