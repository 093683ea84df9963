"""Install the built wheels in fresh environments, one for each Python that is found, and try what they promise.

    make installs

Prints a line for each check, and exits with 1 where one fails. PyPI's torch on Linux brings CUDA, several gigabytes; a
folder with a wheel of torch for CPUs, named by PIP_FIND_LINKS, saves that. A Python for which it must be downloaded is
skipped by name where the disk has no room for it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
UV = os.environ.get("UV", "uv")
SECONDS = 0.3
"""The most that `adapt --help` may take."""
PATIENCE = 240
"""Seconds after which an installation is given up: the download of torch with CUDA, where no cache has it."""
ROOM = 20 * 10**9
"""Bytes of disk that two environments with CUDA take, with the cache."""
TINY = "from pathlib import Path; from adapterkit.testing import tiny; tiny.make('bert', Path('tiny'))"
"""Writes a small random base, since the demo's is an extra."""
ON_TINY = ("run", "--base", "tiny", "--train-file", "rows.csv", "--strategy", "lora")
EXTRAS = {
    "demo": ("run", "--dataset", "demo:sentiment"),
    "excel": ("run", "--train-file", "rows.xlsx"),
    "onnx": ("export", "one", "--format", "onnx", "--to", "exported"),
    "quantization": (*ON_TINY, "--quantization", "4bit"),
    "ray": ("compare", "--dataset", "demo:sentiment", "--on", "ray"),
    "remote": ("list", "--registry", "s3://bucket/registry.json"),
    "report": ("compare", "--dataset", "demo:sentiment", "--report", "page.html"),
    "serve": ("serve",),
    "tensorboard": (*ON_TINY, "--report-to", "tensorboard"),
    "tune": ("tune", "--dataset", "demo:sentiment"),
}
"""Extras, each with a command that needs it, in a folder with rows.csv, rows.xlsx, `tiny` and the adapter `one`."""
BEHIND = {"otel": "serve", "runtime": "onnx"}
"""Extras whose commands need another one first, tried in tests/serving and tests/runtime."""


def main() -> None:
    faults = []
    for wheel in sorted((ROOT / "dist").glob("*.whl")):
        light = "runtime" in wheel.name
        for version in PYTHONS:
            python = interpreter(version)
            reason = installed(wheel, python, version) if python else f"Python {version} isn't installed"
            if reason:
                print(f"{wheel.name} on {version}: skipped, {reason}", flush=True)
                faults += [reason] if "No solution found" in reason else []  # a network that fails is no fault of ours
                continue
            folder = environment(wheel, version)
            every = not light and version == PYTHONS[0]  # the lines don't differ by Python
            if every:
                prepare(folder / "bin")
            extras = {name: command for name, command in EXTRAS.items() if every or name == "demo"}
            for what, right in checks(folder / "bin", {} if light else extras):
                print(f"{wheel.name} on {version}: {'ok    ' if right else 'FAILED'} {what}", flush=True)
                faults += [] if right else [what]
            shutil.rmtree(folder)
    sys.exit(bool(faults))


def interpreter(version: str) -> str | None:
    """Return a Python of this version from the path or from pyenv, whose commands on the path may not run."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return str(path)
    return None


def environment(wheel: Path, version: str) -> Path:
    return ROOT / "build" / "installs" / f"{wheel.name.split('-')[0]}-{version}"


def installed(wheel: Path, python: str, version: str) -> str:
    """Install a wheel alone in a new environment; return why that wasn't possible, empty where it was."""
    folder = environment(wheel, version)
    shutil.rmtree(folder, ignore_errors=True)
    if "runtime" not in wheel.name and version != PYTHONS[0] and shutil.disk_usage(ROOT).free < ROOM:
        return f"no room on the disk for torch with CUDA ({ROOM / 1e9:.0f} GB)"
    output(python, "-m", "venv", str(folder))
    command = [UV, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), str(wheel)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"the installation took more than {PATIENCE} s"
    return f"uv: {done.stderr.strip()}" if done.returncode else ""


def checks(bin_: Path, extras: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, bool]]:
    """Yield what was tried, each with whether it is as promised; adapterkit-runtime has no extras."""

    def adapt(*arguments: str) -> str:
        return output(str(bin_ / "adapt"), *arguments, cwd=bin_)

    packages = output(UV, "pip", "list", "--python", str(bin_ / "python"))
    yield help_in_time(adapt)
    yield "adapt info", "python" in adapt("info")
    yield "adapt list", any(word in adapt("list") for word in ("registry.json", "one "))
    yield "adapt serve --help", "--port" in adapt("serve", "--help")
    yield f"torch is {'' if extras else 'not '}installed", ("\ntorch " in packages) is bool(extras)
    for extra, command in extras.items():
        yield advised(extra, last_line(adapt(*command)))
    if not extras:
        error = last_line(adapt("run", "--dataset", "demo:sentiment"))
        yield f"adapt run: {error}", error.startswith("Error: ") and "pip install adapterkit" in error


def prepare(folder: Path) -> None:
    """Write the files of `EXTRAS`, and train an adapter on a tiny base."""
    (folder / "rows.csv").write_text("text,label\n" + "a good one,x\na bad one,y\n" * 4)
    (folder / "rows.xlsx").write_text("opened by the reader alone")
    output(str(folder / "python"), "-c", TINY, cwd=folder)
    output(str(folder / "adapt"), *ON_TINY, "--name", "one", cwd=folder)


def help_in_time(adapt: Callable[..., str]) -> tuple[str, bool]:
    times = []
    for _ in range(6):  # the first compiles
        start = cpu_seconds()
        text = adapt("--help")
        times.append(cpu_seconds() - start)
    seconds = min(times[1:])  # of CPU time on one thread, since a loaded machine only adds to it
    return f"adapt --help in {seconds:.2f} s of CPU time", "adapt run" in text and seconds < SECONDS


def cpu_seconds() -> float:
    """Return the CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def advised(extra: str, line: str) -> tuple[str, bool]:
    return f"without the extra {extra}: {line}", line.startswith("Error: ") and f"'adapterkit[{extra}]'" in line


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def output(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


if __name__ == "__main__":
    main()
