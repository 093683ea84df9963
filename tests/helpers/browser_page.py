"""The page of examples/browser, built by `make browser`, with an export beside it, in a Chromium without a network."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .browser import Browser

BUILT = Path(__file__).parent.parent.parent / "build" / "browser"
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)

ANSWER = """new Promise((resolve, reject) => {
  const [text, menu, table, status] = ["#text", "#adapter", "#scores", "#status"].map((s) => document.querySelector(s));
  const [wanted, adapter] = %s;
  text.value = wanted;
  menu.value = adapter;
  document.querySelector("#form").requestSubmit();
  const poll = () => {
    if (table.dataset.answered === JSON.stringify([wanted, adapter]))
      resolve(Object.fromEntries(Array.from(table.tBodies[0].rows, (r) => [r.cells[0].textContent, +r.dataset.score])));
    else if (status.className === "error") reject(new Error(status.textContent));
    else setTimeout(poll, 5);
  };
  poll();
})"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # tests change files within the second that caches compare
        super().end_headers()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the browser leaves before all of a file has arrived
            super().handle()


class Page:
    """The opened page."""

    def __init__(self, browser: Browser, server: http.server.ThreadingHTTPServer) -> None:
        self.browser, self.server = browser, server
        self.url = f"http://127.0.0.1:{server.server_port}/"

    def open(self) -> str:
        """Open the page and return its status line, an error or the first answer."""
        self.browser.open_url(f"{self.url}index.html")
        deadline = time.monotonic() + 60
        script = "document.querySelector('#status')?.textContent ?? 'Loading'"  # null while the page is parsed
        while (status := str(self.browser.run(script))).startswith("Loading"):
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def answer(self, text: str, adapter: str) -> dict[str, float]:
        """Return the score of each label."""
        scores: dict[str, float] = self.browser.run(ANSWER % json.dumps([text, adapter]))
        return scores

    @property
    def facts(self) -> dict[str, Any]:
        """The page's measurements: bytes, base, baseLoads and first, in milliseconds."""
        facts: dict[str, str] = self.browser.run("({...document.querySelector('#facts').dataset})")
        return {name: float(value or "nan") for name, value in facts.items()}

    def stop_serving(self) -> None:
        """Stop the server and close its port."""
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def opened(export: Path, folder: Path) -> Iterator[Page]:
    """Serve the page with an export on loopback, from a new folder in `folder`; yield it before it is opened."""
    www = folder / "www"
    shutil.copytree(BUILT, www)
    (www / "onnx").symlink_to(export.resolve())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=www))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Browser(folder / "profile", flags=OFFLINE) as browser:
        page = Page(browser, server)
        try:
            yield page
        finally:
            page.stop_serving()
