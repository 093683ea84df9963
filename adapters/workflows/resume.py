"""Interrupted runs: list them, and plan one again from its folder."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..display import size
from ..errors import RegistryError, unknown
from ..settings import RUN_FILE
from ..store.registry import Registry
from ..training.checkpoints import processes_of, unfinished
from .config_file import read_run
from .plan import Plan
from .registered import folder_bytes


@dataclass(frozen=True)
class Interrupted:
    """A run that has a checkpoint and no result."""

    name: str
    folder: Path
    step: int  # of its newest checkpoint
    saved: str  # when that was written
    nbytes: int
    options: dict[str, Any]  # that differ from those of other interrupted runs of the same name

    @property
    def options_text(self) -> str:
        """The options for reading: seed=1, epochs=3."""
        return ", ".join(f"{key}={value}" for key, value in self.options.items())

    def plain(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "step": self.step,
            "saved": self.saved,
            "bytes": size(self.nbytes),
            "options": self.options_text,
        }


def interrupted_runs(registry: Registry) -> list[Interrupted]:
    """Return the interrupted runs beside a registry."""
    runs = unfinished(registry.path.parent)
    return [_described(folder, step, runs) for folder, step in runs.items()]


def interrupted_run(registry: Registry, run: str) -> Path:
    """Return the folder of the interrupted run `run`, which is a folder or the name of an adapter.

    Raises `RegistryError` where there is none or more than one.
    """
    if (Path(run) / RUN_FILE).is_file():
        return Path(run)
    if Path(run).is_dir():
        raise RegistryError(f"'{run}' is not the folder of a run: it has no {RUN_FILE}")
    runs = unfinished(registry.path.parent)
    matches = [folder for folder in runs if folder.parent.name == run]
    if not matches:
        names = [folder.parent.name for folder in runs]
        raise RegistryError(unknown("interrupted run", run, names, known_as="there are"))
    if len(matches) > 1:
        described = [_described(folder, runs[folder], runs) for folder in matches]
        each = "; ".join(f"{one.folder} ({one.options_text or 'the defaults'})" for one in described)
        raise RegistryError(f"{len(matches)} runs of '{run}' were interrupted; expected the folder of one: {each}")
    return matches[0]


def resumed_plan(folder: Path, **options: Any) -> tuple[Plan, Registry, int]:
    """Return the plan of an interrupted run, the registry beside it, and its number of processes."""
    plan = Plan.resolve(options, config=read_run(folder / RUN_FILE))
    return plan, Registry.at(folder.parents[2] / Registry.at().path.name), processes_of(folder)


def _described(folder: Path, step: int, runs: Mapping[Path, int]) -> Interrupted:
    values = read_run(folder / RUN_FILE)
    others = [read_run(other / RUN_FILE) for other in runs if other.parent == folder.parent and other != folder]
    newest = max(path.stat().st_mtime for path in folder.glob("checkpoint-*"))
    return Interrupted(
        name=folder.parent.name,
        folder=folder,
        step=step,
        saved=datetime.datetime.fromtimestamp(newest).isoformat(" ", "seconds"),
        nbytes=folder_bytes(folder),
        options={key: value for key, value in values.items() if any(o.get(key) != value for o in others)},
    )
