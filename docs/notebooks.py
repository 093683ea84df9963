"""Execute the notebooks of examples/ in empty folders, and write their outputs into them.

    make notebooks                          # all
    python docs/notebooks.py compare        # one

Exits with 1 where a cell fails, or a notebook takes more than two minutes of CPU time, which on one thread is what it
takes on a quiet machine. Needs nbclient, nbformat and ipykernel.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
SECONDS = 120
ESCAPES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
BAR = re.compile(r"\d% (-:--:--|\d:\d\d:\d\d)")


def execute(path: Path) -> float:
    """Execute a notebook, write it with its outputs, and return the CPU seconds that it took."""
    notebook = nbformat.read(path, as_version=4)
    began = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=10 * SECONDS, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            if "outputs" in cell:
                cell.outputs = merged(cell.outputs)
    seconds = cpu_seconds() - began
    for cell in notebook.cells:
        cell.metadata = {}
    nbformat.write(notebook, path)
    return seconds


def merged(outputs: list[Any]) -> list[Any]:
    """Return a cell's outputs; consecutive texts of a stream become one, without colours and progress bars."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream" and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = [line.rstrip() for line in ESCAPES.sub("", output.text).splitlines()]
            output.text = "".join(f"{line}\n" for line in lines if line and not BAR.search(line))
    return joined


def cpu_seconds() -> float:
    """Return the CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    os.environ.update(HF_HUB_OFFLINE="1", PYTHONWARNINGS="ignore", OMP_NUM_THREADS="1")
    os.environ.update(NO_COLOR="1", COLUMNS="100", TQDM_DISABLE="1", PYTHONUTF8="1")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    failed = False
    for path in sorted(FOLDER.glob("*.ipynb")):
        if sys.argv[1:] and path.stem not in sys.argv[1:]:
            continue
        try:
            seconds = execute(path)
        except (CellExecutionError, TimeoutError) as error:
            print(f"{path.name}: FAILED\n{error}", flush=True)
            failed = True
            continue
        print(f"{path.name}: {seconds:.0f} s of CPU time", flush=True)
        failed |= seconds > SECONDS
    sys.exit(failed)


if __name__ == "__main__":
    main()
