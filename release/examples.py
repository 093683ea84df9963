"""Run every project of examples/ in the environment of this Python, which has the package and no source of it.

    make examples                                    # all
    .package/bin/python release/examples.py inbox    # those whose name has "inbox"

A project is a folder with a run.sh, which runs in an empty folder, or with tests. A project with a pyproject.toml is
installed first. Exits with 1 where one fails, or takes more than two minutes of CPU time.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "examples"
SECONDS = 120
IGNORED = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", ".pytest_cache")


def projects() -> list[Path]:
    """Return the folders that can be run or tested."""
    folders = [path for path in sorted(FOLDER.iterdir()) if path.is_dir()]
    return [path for path in folders if (path / "run.sh").exists() or any(path.rglob("test_*.py"))]


def commands(project: Path) -> Iterator[list[str]]:
    """Yield what installs, runs and tests a project."""
    if (project / "pyproject.toml").exists():
        yield [os.environ.get("UV", "uv"), "pip", "install", "--quiet", "--python", sys.executable, f"{project}[test]"]
    if (project / "run.sh").exists():
        yield ["bash", str(project / "run.sh")]
    if any(project.rglob("test_*.py")):
        yield [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project)]


def run(project: Path) -> bool:
    """Run a project from a copy of its own, print its last lines, and return whether it passed in time."""
    began = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(project, Path(folder) / project.name, ignore=IGNORED)
        empty = Path(folder) / "empty"
        empty.mkdir()
        for command in commands(copy):
            done = subprocess.run(
                command, cwd=empty, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            lines = done.stdout.strip().splitlines()
            print("\n".join(lines if done.returncode else lines[-10:]), flush=True)
            if done.returncode:
                print(f"examples/{project.name}: FAILED, exit code {done.returncode}", flush=True)
                return False
    seconds = cpu_seconds() - began
    print(f"examples/{project.name}: {seconds:.0f} s of CPU time", flush=True)
    return seconds <= SECONDS


def cpu_seconds() -> float:
    """Return the CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", NO_COLOR="1", COLUMNS="100", PYTHONUTF8="1")
    os.environ.setdefault("PORT", "8765")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = sys.argv[1:] or [""]
    passed = [run(project) for project in projects() if any(name in project.name for name in names)]
    sys.exit(not passed or not all(passed))


if __name__ == "__main__":
    main()
