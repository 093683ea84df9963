"""Record docs/figures/terminal.svg, the picture of the README: a real run in an empty folder.

python docs/terminal.py
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURE = Path(__file__).parent / "figures/terminal.svg"
COMMANDS = (
    "adapt run --strategy lora",
    'adapt predict sentiment-lora "The soup was cold and so was the waiter." "I\'d stay here again tomorrow."',
    "adapt list",
)
COLUMNS = 112
GREY, WHITE, RED, GREEN = (110, 118, 129), (230, 237, 243), (255, 123, 114), (63, 185, 80)
THEME = TerminalTheme(  # a dark window, legible on light and on dark pages
    background=(13, 17, 23),
    foreground=WHITE,
    normal=[
        GREY,
        (255, 123, 114),
        (63, 185, 80),
        (210, 153, 34),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        WHITE,
    ],
)


def recorded() -> Console:
    """Run the commands and return the console that holds them and what they printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{command}\n{done.stderr}")
            for line in (done.stderr + done.stdout).splitlines():
                console.print(Text.from_ansi(line))
            console.print()
    return console


def main() -> None:
    picture = recorded().export_svg(title="adapterkit", theme=THEME, unique_id="adapt")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # fonts of another host; monospace does
    PICTURE.write_text(picture, encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
