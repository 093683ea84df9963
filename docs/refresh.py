"""Run the commands in the pages' `console` blocks again and put what they print under them.

    python docs/refresh.py docs/four-tasks.md README.md
    python docs/refresh.py docs/translation.md --data DATA/translation

A block's lines that begin with `$ ` are commands; the rest is what they printed. They run in order, in a new folder for
each page in `.docs/`, which git ignores; folders named by `--data` are copied there first, for data that isn't ours.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def commands(block: str) -> list[str]:
    """Return the commands of a block, continued lines and all."""
    found: list[str] = []
    going_on = False
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line)
        elif going_on:
            found[-1] += "\n" + line
        going_on = (line.startswith("$ ") or going_on) and line.endswith("\\")
    return found


def output(command: str, folder: Path) -> str:
    """Run a command and return what it printed; stop where it fails and the page doesn't say so."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "110", "PYTHONWARNINGS": "ignore"}
    text = command.removeprefix("$ ")
    folder = ROOT if text.startswith("make ") else folder
    done = subprocess.run(
        text, shell=True, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode not in (0, 2):
        sys.exit(f"{text}\n{done.stdout}")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join([command, *lines]) + "\n"


def refresh(page: Path, folder: Path) -> None:
    """Put fresh output into every block of a page."""

    def fresh(block: re.Match[str]) -> str:
        return block[1] + "".join(output(command, folder) for command in commands(block[2])) + block[3]

    page.write_text(BLOCK.sub(fresh, page.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--data", nargs="*", default=[], type=Path, help="copy these folders into the working folder")
    args = parser.parse_args()
    for page in args.pages:
        folder = ROOT / ".docs" / page.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for source in args.data:
            shutil.copytree(source, folder / source.name)
        (folder / "examples").symlink_to(ROOT / "examples")
        refresh(page.resolve(), folder)
        print(f"{page}: refreshed")


if __name__ == "__main__":
    main()
