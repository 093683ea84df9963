"""Run the commands of the pages' `console` blocks and put their output under them.

    make docs                                              # every page
    python docs/refresh.py docs/tutorials/four-tasks.md    # one page
    python docs/refresh.py --data DATA                     # with the data sets and bases that pages name

Lines of a block that begin with `$ ` are commands, continued by a backslash; the rest is output. A page's commands run
in order in an empty folder of their own, `.docs/PAGE/`. Data that isn't part of the repository is named by a comment,
`<!-- data: long-reviews -->`, and is copied there from --data; a page without its data is listed and left as it is.

Runs are seeded and use one thread, so pages change only where the output does. A command's output that differs from the
old one in times, dates or megabytes alone isn't written; else all of it is, so that its figures are of one run.
`docs/figures/refreshed.json` holds a digest of each page's blocks as they were refreshed, so that tests/test_docs.py
notices a block that was edited by hand; null is a page whose output is older than the last change of the command line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAMPS = ROOT / "docs/figures/refreshed.json"
BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.DOTALL)
DATA = re.compile(r"<!-- data: (.+?) -->")
VOLATILE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d[\d.,]*(?= ?(s|ms|MB|GB|kB)\b)|\d[\d.]*s\b|(?<=  )\d+\.\d$")
ENVIRONMENT = {
    "COLUMNS": "110",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
    "TERM": "dumb",
    "TZ": "UTC",
}


def pages() -> list[Path]:
    """Return the README and all pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a block, each with its lines of output."""
    pairs: list[tuple[str, list[str]]] = []
    continued = False
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append((line, []))
        elif continued:
            pairs[-1] = (f"{pairs[-1][0]}\n{line}", [])
        else:
            pairs[-1][1].append(line)
        continued = (line.startswith("$ ") or continued) and line.endswith("\\")
    return pairs


def digest(page: Path) -> str:
    """Return the digest of a page's console blocks."""
    blocks = "\0".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    return hashlib.sha256(blocks.encode()).hexdigest()[:16]


def stable(old: list[str], new: list[str]) -> list[str]:
    """Return the new output of a command; the old one where they differ in times, dates and sizes alone."""
    same = [VOLATILE.sub("#", line) for line in old] == [VOLATILE.sub("#", line) for line in new]
    return old if same else new


def output(command: str, old: list[str], folder: Path) -> list[str]:
    """Run a command and return its lines; exit where it fails and did not before."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command.removeprefix("$ "),
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    if done.returncode and not any(line.startswith("Error") for line in old):
        sys.exit(f"{folder.name}: exit code {done.returncode}\n{command}\n{done.stdout}")
    return stable(old, lines)


def working_folder(page: Path, data: Path | None) -> Path | None:
    """Return a new folder with the page's data and the examples; None where the data is missing."""
    sources = []
    for name in " ".join(DATA.findall(page.read_text(encoding="utf-8"))).split():
        source = next((path for path in (data.rglob(name) if data else []) if path.is_dir()), None)
        if source is None:
            return None
        sources.append(source)
    folder = ROOT / ".docs" / page.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in sources:
        shutil.copytree(source, folder / source.name)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def refresh(page: Path, folder: Path) -> None:
    """Put fresh output into every block of a page."""

    def fresh(block: re.Match[str]) -> str:
        pairs = [(command, output(command, old, folder)) for command, old in commands(block[0])]
        return "".join("\n".join([command, *lines]) + "\n" for command, lines in pairs)

    text = BLOCK.sub(fresh, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    stamps = json.loads(STAMPS.read_text()) if STAMPS.exists() else {}
    stamps[page.relative_to(ROOT).as_posix()] = digest(page)
    STAMPS.write_text(json.dumps(dict(sorted(stamps.items())), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="by default all pages")
    parser.add_argument("--data", type=Path, help="the folder with the data sets and bases that pages name")
    args = parser.parse_args()
    for page in [path.resolve() for path in args.pages] or pages():
        name = page.relative_to(ROOT)
        if not BLOCK.search(page.read_text(encoding="utf-8")):
            continue
        folder = working_folder(page, args.data)
        if folder is None:
            print(f"{name}: left as it is, its data is missing", flush=True)
            continue
        refresh(page, folder)
        print(f"{name}: refreshed", flush=True)


if __name__ == "__main__":
    main()
