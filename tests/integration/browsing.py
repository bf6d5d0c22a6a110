"""A real Chromium on the demo, and when it has no answer outstanding."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waiting import LIMIT

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
# Resolves when an element has kept its place for a second: an editor fits its canvas after it is shown, and says so nowhere.
STANDS_STILL = """where => new Promise(resolve => {
    let before = "", frames = 0
    const look = () => {
        const now = JSON.stringify(document.querySelector(where).getBoundingClientRect())
        frames = now === before ? frames + 1 : 0
        before = now
        frames > 60 ? resolve() : requestAnimationFrame(look)
    }
    look()
})"""
# Counts the presses that the server has not answered: sent, and named as done in the stream of answers.
COUNTING = """
window.asked = 0; window.answered = 0
const ask = window.fetch
window.fetch = async function (where) {
    const address = (where.url || where).toString()
    if (address.includes("queue/join")) window.asked++
    const answer = await ask.apply(this, arguments)
    if (address.includes("queue/join") && !answer.ok) window.answered++
    if (address.includes("queue/data")) (async () => {
        const reader = answer.clone().body.getReader(), text = new TextDecoder()
        let rest = ""
        try {
            for (;;) {
                const {done, value} = await reader.read()
                if (done) break
                const parts = (rest + text.decode(value, {stream: true})).split("\\n\\n")
                rest = parts.pop()
                window.answered += parts.filter(part => part.includes('"process_completed"')).length
            }
        } catch { }
    })()
    return answer
}
"""


@contextlib.contextmanager
def chromium(playwright: Any) -> Iterator[Any]:
    """A browser that goes with the test."""
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=LIMIT * 1000)
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page of a new visitor, opened and ready; no error may happen in it."""
    context = browser.new_context(**options)
    context.set_default_timeout(LIMIT * 1000)
    context.add_init_script(COUNTING)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.wait_for_function("document.querySelector('#verdict h2')?.innerText === 'Something looks wrong'")
    yield page
    assert not problems
    context.close()


def is_quiet(page: Any) -> bool:
    """Whether every press was answered."""
    return bool(page.evaluate("window.asked === window.answered"))


def open_tab(page: Any, *names: str) -> None:
    """Choose a tab, and a tab within it."""
    for name in names:
        page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Any, where: str, *paths: Path) -> None:
    """Give files to an input."""
    page.locator(f"{where} input[type=file]").first.set_input_files(list(paths))
