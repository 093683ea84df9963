"""Take the pictures of the tutorial on comparisons: its page in headless Chromium, on a desk and on a phone.

    python docs/refresh.py docs/tutorials/compare.md && python -m benchmarks.pictures

The page is the one that the tutorial's command wrote.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.helpers.browser import CHROMIUM, Browser

ROOT = Path(__file__).parent.parent
PICTURES = {"compare.png": (1400, 1500, False), "compare-phone.png": (400, 1500, True)}
"""Width, height and whether the theme is dark."""


def main() -> None:
    if CHROMIUM is None:
        raise SystemExit("the pictures of docs/tutorials/compare.md are left as they are: Chromium is missing")
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        for name, (width, height, dark) in PICTURES.items():
            browser.look(width=width, dark=dark)
            browser.open(ROOT / ".docs" / "compare" / "sentiment.html")
            (ROOT / "docs" / "figures" / name).write_bytes(browser.picture(width, height))
            print(f"docs/figures/{name}: taken", flush=True)


if __name__ == "__main__":
    main()
