"""Compare 12 strategies on 10,000 test rows of 150 labels by `adapt compare`, and open the page in headless Chromium.

    python -m benchmarks.large_page --data DATA

DATA has the folder clinc150. The base is a tiny random one: the page has as many rows, labels and strategies as of any.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

MORE = {"bias-only": "bitfit:BitFit", "lowest": "layerwise:Layerwise"}
"""Names and classes of two strategies of another distribution, so that there are twelve."""


def write_rows(data: Path, folder: Path) -> None:
    """Write 1,500 rows for training, 300 for validation and 10,000 for test."""
    rows = []
    for path in sorted((data / "clinc150").glob("*/*.csv")):
        with path.open() as file:
            rows += [(row["text"], f"{path.parent.name}: {row['label']}") for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    for split, start, stop in (("train", 0, 1500), ("validation", 1500, 1800), ("test", 1800, 11_800)):
        with (folder / f"{split}.csv").open("w") as file:
            csv.writer(file).writerows([("text", "label"), *rows[start:stop]])


def install_more(folder: Path) -> None:
    """Write a distribution with the strategies of `MORE`."""
    about = folder / "more_strategies-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: more-strategies\nVersion: 1.0\n")
    lines = [f"{name} = adapterkit.plugins.{target}" for name, target in MORE.items()]
    (about / "entry_points.txt").write_text("\n".join(["[adapterkit.strategies]", *lines, ""]))


def compare(folder: Path) -> None:
    """Run the comparison in a folder that has the rows."""
    from adapterkit.testing import tiny

    base = tiny.make("bert", folder / "base")
    install_more(folder / "more")
    command = [sys.executable, "-m", "adapterkit.cli", "compare", "--dataset", ".", "--base", str(base)]
    command += ["--epochs", "1", "--keep", "none", "--name", "large", "--report", "page.html"]
    path = os.pathsep.join(filter(None, (str(folder / "more"), os.environ.get("PYTHONPATH"))))
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": path})


def main() -> None:
    from tests.helpers.browser import Browser

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="a page that was written before; nothing is compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        page = options.page or folder / "page.html"
        if options.page is None:
            write_rows(options.data, folder)
            compare(folder)
        results = json.loads(page.with_suffix(".json").read_bytes())
        with Browser(folder / "profile") as browser:
            seconds = [browser.open(page) for _ in range(5)]
            note = browser.run("document.querySelector('#examples .note').textContent")
        strategies = [c for c in results["candidates"] if c["kind"] == "strategy"]
        print(f"{len(strategies)} strategies, {results['measured']:,} test rows, {len(results['labels'])} labels")
        print(
            f"page {page.stat().st_size / 1e6:.2f} MB, results {page.with_suffix('.json').stat().st_size / 1e6:.2f} MB"
        )
        print(f"opened in {median(seconds):.2f} s (median of 5; {min(seconds):.2f} to {max(seconds):.2f})")
        print(f"the page says: {note}")


if __name__ == "__main__":
    main()
