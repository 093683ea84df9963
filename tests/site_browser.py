"""Open the built site in a headless Chromium: search, both colour schemes, a wide and a narrow window.

    make site && python -m tests.site_browser [FOLDER]        # screenshots are written to FOLDER

Exits with 1 where a search for LoRA finds nothing, the console has an error, a page is wider than the window, or
another address is requested. Not part of the suite, since the site is built with tools of its own.
"""

from __future__ import annotations

import functools
import http.server
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from tests.helpers.browser import Browser

PUBLIC = Path(__file__).parent.parent / "build" / "html"
PAGES = {
    "start": "index.html",
    "api": "reference/api/many-adapters.html",
    "command": "reference/commands/run.html",
    "strategy": "reference/strategy/lora.html",
    "need": "how-to/start-from-a-need.html",
}
SEARCH = """(() => {
  document.querySelector('[for=__search]').click();
  const input = document.querySelector('.md-search__input');
  input.focus();
  input.value = 'LoRA';
  input.dispatchEvent(new Event('input', {bubbles: true}));
  input.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
})(), 1"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser leaves a page before all of it has arrived
            super().handle()


@contextmanager
def served() -> Iterator[str]:
    """Serve the site on loopback; yield the address of its newest version."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=PUBLIC))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{version('adapterkit')}/"
    server.shutdown()


def results(browser: Browser) -> int:
    """Search for LoRA, and return the number of results once there are any."""
    browser.run(SEARCH)
    for _ in range(100):
        found = int(browser.run("document.querySelectorAll('.md-search-result__item').length"))
        if found:
            return found
        time.sleep(0.2)
    return 0


def faults(browser: Browser, url: str, folder: Path | None) -> list[str]:
    """Return what is wrong on the pages in each window and colour scheme."""
    wrong = []
    for width in (1400, 400):
        for scheme in ("light", "dark"):
            browser.look(width=width, dark=scheme == "dark")
            browser.open_url(f"{url}index.html")
            browser.run("localStorage.clear(), 1")
            for name, page in PAGES.items():
                browser.open_url(url + page)
                used = browser.run("document.body.getAttribute('data-md-color-scheme')")
                wrong += [] if used == {"light": "default", "dark": "slate"}[scheme] else [f"{page}: {used}"]
                wide = browser.run("document.documentElement.scrollWidth")
                wrong += [f"{page}: {wide} pixels wide in a window of {width}"] if wide > width else []
                if folder:
                    browser.screenshot(folder / f"{name}-{width}-{scheme}.png")
            wrong += [] if results(browser) else [f"no result for LoRA, {width} {scheme}"]
            if folder:
                browser.screenshot(folder / f"search-{width}-{scheme}.png")
    wrong += [f"console: {message}" for message in browser.messages]
    return wrong + [f"requested {one}" for one in browser.requests if one.startswith("http") and url[:21] not in one]


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with (
        served() as url,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(Path(profile)) as b,
    ):
        wrong = faults(b, url, folder)
    print("\n".join(wrong) or f"{len(PAGES)} pages and the search, in two windows and two schemes: nothing wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
