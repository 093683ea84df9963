"""Train strategies in two processes and write the results: see `runs.launch`.

python -m adapterkit.testing.worker JOBS.json RESULTS.json
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from ..base.base import Base
from ..execution import processes
from ..io.atomic import write_folder
from ..options import build
from .bench import BATCH, trained

PROCESSES = 2


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


def run(rank: int, function: Callable[[dict[str, Any]], Any], jobs: list[dict[str, Any]], file: str) -> None:
    """Call a function with every job as the process of this rank; rank 0 writes the results of all to a file."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    processes.begin()
    each = processes.gathered([function(job) for job in jobs])
    if processes.index() == 0:
        Path(file).write_text(json.dumps(each))
    processes.end()
    processes.leave(SystemExit())


def main(function: Callable[[dict[str, Any]], Any] = result_of) -> None:
    """Call a function with every job of a file in two processes, and write the results of both."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.environ.update(MASTER_ADDR=store.host, MASTER_PORT=str(store.port), TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(WORLD_SIZE=str(PROCESSES), LOCAL_WORLD_SIZE=str(PROCESSES))
    # a fork has torch and transformers imported; elsewhere than on Linux, forking after imports isn't safe
    method = "fork" if sys.platform == "linux" else "spawn"
    args = (function, json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
    start_processes(run, args, nprocs=PROCESSES, start_method=method)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
