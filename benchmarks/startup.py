"""Time `adapt --help` and `adapt strategies` with no plugins and with fifty, in turns, each in a process of its own.

One of the fifty imports torch at its top and one raises. It prints medians of the rounds: seconds on the clock, which a
busy machine stretches, and seconds of processor time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (["--help"], ["strategies"], ["run", "--strategy", "lora", "--help"])


def packages(site: Path, count: int) -> None:
    """Put `count` packages with a strategy each into a folder, as pip would."""
    for number in range(count):
        module = f"plugin_{number}"
        top = {0: "import torch\n", 1: "raise RuntimeError('no luck')\n"}.get(number, "")
        (site / f"{module}.py").write_text(f"{top}from adapterkit.plugins.full import Full as Strategy\n")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[adapterkit.strategies]\nplugin-{number} = {module}:Strategy\n")


def seconds(command: list[str], site: Path) -> tuple[float, float]:
    """Return how long a command takes: on the clock, and of processor time."""
    env = {**os.environ, "PYTHONPATH": str(site)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "adapterkit.cli", *command], env=env, capture_output=True, check=True)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sites = {count: Path(folder) / str(count) for count in (0, 50)}
        for count, site in sites.items():
            site.mkdir()
            packages(site, count)
        cases = [(command, count) for command in COMMANDS for count in sites]
        took: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(args.rounds):
            for command, count in cases:
                took.setdefault((" ".join(command), count), []).append(seconds(command, sites[count]))
        for (text, count), values in took.items():
            clock, processor = (statistics.median(each) for each in zip(*values, strict=True))
            print(f"adapt {text}, {count} plugins: {clock:.3f} s, {processor:.3f} s of processor time")


if __name__ == "__main__":
    main()
