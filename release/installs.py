"""Install the built wheels in fresh environments, one for each Python that is found, and try what they promise.

    make packages && make installs

Prints a line for each check, and exits with 1 where one fails. PyPI's torch on Linux brings CUDA; a folder with a wheel
of torch for CPUs, named by PIP_FIND_LINKS, saves that.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
SECONDS = 0.3
"""The most that `adapt --help` may take."""


def main() -> None:
    faults = []
    for wheel in sorted((ROOT / "dist").glob("*.whl")):
        for python in PYTHONS:
            if not runs(python):
                print(f"{wheel.name}: Python {python} isn't installed; skipped", flush=True)
                continue
            folder = ROOT / "build" / "installs" / f"{wheel.name.split('-')[0]}-{python}"
            shutil.rmtree(folder, ignore_errors=True)
            output(f"python{python}", "-m", "venv", str(folder))
            output(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", str(wheel))
            for what, right in checks(folder / "bin", light="runtime" in wheel.name):
                print(f"{wheel.name} on {python}: {'ok    ' if right else 'FAILED'} {what}", flush=True)
                faults += [] if right else [what]
    sys.exit(bool(faults))


def runs(python: str) -> bool:
    """Return whether this Python is on the path and runs; pyenv has a command for versions that aren't chosen, too."""
    found = shutil.which(f"python{python}")
    return found is not None and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0


def checks(bin_: Path, *, light: bool) -> list[tuple[str, bool]]:
    """Return what was tried, each with whether it is as promised."""
    adapt = str(bin_ / "adapt")
    times = []
    for _ in range(6):  # the first compiles
        start = time.perf_counter()
        text = output(adapt, "--help", cwd=bin_)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[1:])
    packages = output(str(bin_ / "python"), "-m", "pip", "list")
    run = output(adapt, "run", "--dataset", "demo:sentiment", cwd=bin_).splitlines()[-1]
    advice = "pip install adapterkit" if light else "pip install 'adapterkit[demo]'"
    serve = output(str(bin_ / "python"), "-c", "import adapterkit.cli.serve as s; s.command.main(['--help'])")
    return [
        (f"adapt --help in {seconds:.2f} s", "adapt run" in text and seconds < SECONDS),
        (f"adapt run: {run}", run.startswith("Error: ") and advice in run),
        ("adapt info", "python" in output(adapt, "info", cwd=bin_)),
        ("adapt list", "registry.json" in output(adapt, "list", cwd=bin_)),
        ("adapt serve --help", "--port" in serve),
        (f"torch is {'not ' * light}installed", ("\ntorch " in packages) is not light),
    ]


def output(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


if __name__ == "__main__":
    main()
