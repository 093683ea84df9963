"""One run by several processes on Ray: Ray Train begins them again at a checkpoint where one dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from ..cluster.placement import Placement
from ..cluster.ray_connection import connect, environment, resources
from ..cluster.ray_executor import MOST_ATTEMPTS, no_start
from ..errors import AdapterkitError, ClusterError, OptionError, TrainingError
from ..execution.stop_signals import StoppedError
from ..io.atomic import json_bytes, write_file
from ..store.registry import Registry
from .plan import Plan
from .run import Report, run

_BEGUN, _REPORT, _ERROR = "begun", "report.json", "error.json"


def run_on_ray(
    values: Mapping[str, Any],
    config: Mapping[str, Any],
    registry: Registry,
    count: int,
    placement: Placement,
    *,
    resume: bool = False,
) -> Report:
    """Train one adapter by `count` processes on Ray, as `adapt run --num-processes` does on one machine.

    The plan is that of the options `values` over those of a file, `config`.

    Where a process or its node dies, all begin again at the newest checkpoint, at most three times. The report has no
    base. Raises what the run raises, and `ClusterError` where there is no room, or processes die again and again.
    """
    if registry.mirror is not None:
        raise OptionError(
            "--on ray writes checkpoints beside a registry in a folder that all nodes see; give --registry"
        )
    registry.prepare()
    started = connect(ray, placement)
    logging.getLogger("ray").setLevel(logging.ERROR)
    folder = registry.path.parent.resolve() / "runs" / f".ray-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    try:
        if placement.cpus_per_worker is None:
            placement = replace(placement, cpus_per_worker=1.0)
        size = resources(replace(placement, workers=count), ray.nodes(), flag="--num-processes")
        here = {
            "values": dict(values),
            "config": dict(config),
            "registry": str(registry.path.resolve()),
            "folder": os.getcwd(),
        }
        trainer = TorchTrainer(
            _train,
            train_loop_config={**here, "resume": resume, "to": str(folder)},
            scaling_config=ScalingConfig(
                num_workers=count,
                use_gpu=size.gpus > 0,
                resources_per_worker={"CPU": size.cpus} | ({"GPU": size.gpus} if size.gpus else {}),
            ),
            run_config=RunConfig(
                name="run",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=MOST_ATTEMPTS - 1),
                worker_runtime_env={"env_vars": environment()},
            ),
        )
        before = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit()
        except TrainingFailedError as error:
            _raise_recorded(folder)
            raise ClusterError(f"the run failed {MOST_ATTEMPTS} times: {no_start(str(error))}") from None
        except SystemExit:  # Ray Train's, once a signal has stopped its processes
            raise StoppedError(signal.SIGINT, "stopped by SIGINT") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, before)
        _raise_recorded(folder)
        return _report(json.loads((folder / _REPORT).read_bytes()))
    finally:
        if started:
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _train(settings: Mapping[str, Any]) -> None:
    """Train as one of the processes of a run; rank 0 leaves the report."""
    from ..execution import processes
    from ..execution.precision import precision

    folder = Path(settings["to"])
    os.chdir(settings["folder"])
    if (folder / _ERROR).exists():  # the attempt before raised it, and Ray Train tries again whatever fails
        return
    os.environ.setdefault("ACCELERATE_MIXED_PRECISION", precision("auto").name)
    processes.begin()
    begun = processes.from_main(lambda: (folder / _BEGUN).exists())
    processes.from_main(lambda: write_file(folder / _BEGUN, b""))
    try:
        plan = Plan.resolve(settings["values"], config=settings["config"])
        report = run(plan, Registry.at(Path(settings["registry"])), resume=settings["resume"] or begun)
    except AdapterkitError as error:
        write_file(folder / _ERROR, json_bytes(str(error)))
        raise
    if processes.index() == 0:
        write_file(folder / _REPORT, json_bytes(report.plain()))


def _raise_recorded(folder: Path) -> None:
    with contextlib.suppress(OSError):
        raise TrainingError(json.loads((folder / _ERROR).read_bytes()))


def _report(values: dict[str, Any]) -> Report:
    from ..adapter.adapter import Adapter

    return Report(**values, adapter=Adapter.load(values["folder"]), base=None)  # type: ignore[arg-type]
