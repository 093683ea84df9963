"""adapt resume: go on with runs that died."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table, registry_option, size
from adapterkit.cli.run import launching, report_of
from adapterkit.errors import RegistryError, unknown
from adapterkit.settings import RUN_FILE
from adapterkit.store.registry import Registry
from adapterkit.workflows.config_file import read_run

COLUMNS = ("name", "folder", "step", "saved", "bytes", "options")


def _told(folder: Path, step: int, runs: Mapping[Path, int]) -> dict[str, Any]:
    """Say what a run is: where, how far, when it was kept, and in which options others of its name differ from it."""

    own = read_run(folder / RUN_FILE)
    others = [read_run(o / RUN_FILE) for o in runs if o.parent == folder.parent and o != folder]
    differ = [key for key in own if any(other.get(key) != own[key] for other in others)]
    newest = max(path.stat().st_mtime for path in folder.glob("checkpoint-*"))
    return {
        "name": folder.parent.name,
        "folder": str(folder),
        "step": step,
        "saved": datetime.datetime.fromtimestamp(newest).isoformat(" ", "seconds"),
        "bytes": size(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())),
        "options": ", ".join(f"{key}={own[key]}" for key in differ),
    }


@click.command(short_help="Go on with a run that died.")
@click.argument("run", required=False)
@click.option("--trust-remote-code", is_flag=True, help="Run the checkpoint's own Python code, as the run did.")
@launching
@registry_option()
@common_options
def command(
    run: str | None,
    trust_remote_code: bool,
    registry: Path | None,
    as_json: bool,
    num_processes: int | None,
    launcher_flags: tuple[str, ...],
) -> None:
    """Go on with RUN, an adapter's name or a folder in runs/; without it, list the runs that didn't end.

    It starts as many processes as the run had. Where several runs of a name didn't end, the folder says which. A
    damaged checkpoint is named, and the one before is taken.
    """
    from adapterkit.cli.launch import launch, without
    from adapterkit.runtime import processes
    from adapterkit.training.checkpoints import processes_of, unfinished
    from adapterkit.workflows.plan import Plan

    found = unfinished(Registry.at(registry).path.parent)
    if run is None:
        listed = [_told(folder, step, found) for folder, step in found.items()]
        if as_json:
            print_json(listed)
        elif listed:
            print_table(COLUMNS, [[one[key] for key in COLUMNS] for one in listed])
        else:
            echo("no run is left to go on with")
        return
    if (Path(run) / RUN_FILE).is_file():
        matching = [Path(run)]
    elif Path(run).is_dir():
        raise RegistryError(f"'{run}' is no run's folder: it has no {RUN_FILE}")
    else:
        matching = [folder for folder in found if folder.parent.name == run]
    if not matching:
        raise RegistryError(unknown("run", run, [folder.parent.name for folder in found], known_as="there are"))
    if len(matching) > 1:
        each = "; ".join(f"{folder} ({_told(folder, 0, found)['options'] or 'the defaults'})" for folder in matching)
        raise RegistryError(f"several runs of '{run}' didn't end; give the folder of one: {each}")
    folder = matching[0]
    count = num_processes or processes_of(folder)
    if count > 1 and processes.launched() == 1:
        sys.exit(launch(without(sys.argv[1:], "--num-processes"), count, launcher_flags))
    allowed = {"trust_remote_code": True} if trust_remote_code else {}
    plan = Plan.resolve(allowed, config=read_run(folder / RUN_FILE))
    report_of(plan, registry or folder.parents[2] / Registry.at().path.name, as_json, resume=True)
