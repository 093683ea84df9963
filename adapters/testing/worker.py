"""Train strategies in one of several processes and write the results: see `runs.launch`.

torchrun --nproc-per-node 2 -m adapterkit.testing.worker JOBS.json RESULTS.json
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from ..base.base import Base
from ..execution import processes
from ..io.atomic import write_folder
from ..options import build
from .bench import BATCH, trained


def result_of(job: dict[str, Any]) -> dict[str, Any]:
    """Train a job's strategy on its base, write the adapter to its folder, and return the losses or the error."""
    module, _, name = job["class"].partition(":")
    kind: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    base = Base.load(job["base"])
    try:
        result = trained(base, build(kind, job["options"]), batch=BATCH // 2)
    except Exception as error:  # the rule reports it
        return {"error": f"{type(error).__name__}: {error}"}
    if processes.index() == 0:
        write_folder(Path(job["out"]), result.adapter.files())
    return {"losses": result.losses, "untouched": not base.changed_tensors()}


def main() -> None:
    """Run every job of a file, and write each process's result of each."""
    torch.set_num_threads(1)
    processes.begin()
    each = processes.gathered([result_of(job) for job in json.loads(Path(sys.argv[1]).read_text())])
    if processes.index() == 0:
        Path(sys.argv[2]).write_text(json.dumps(each))
    processes.end()


if __name__ == "__main__":
    main()
    processes.leave(SystemExit())
