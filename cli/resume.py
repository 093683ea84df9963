"""adapt resume: go on with runs that died."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adapterkit.cli.common import common_options, print_table, registry_option, size
from adapterkit.cli.run import launching, read_config, report_of
from adapterkit.errors import RegistryError, unknown
from adapterkit.registry import Registry


@click.command(short_help="Go on with a run that died.")
@click.argument("run", required=False)
@launching
@registry_option()
@common_options
def command(
    run: str | None, registry: Path | None, as_json: bool, num_processes: int | None, launcher_flags: tuple[str, ...]
) -> None:
    """Go on with RUN, an adapter's name or a folder in runs/; without it, list the runs that didn't end.

    It starts as many processes as the run had, unless --num-processes says otherwise.
    """
    from adapterkit import processes
    from adapterkit.checkpoints import RUN_FILE, processes_of, unfinished
    from adapterkit.cli.launch import launch, without
    from adapterkit.workflow import Plan

    found = {str(folder): (folder, at) for folder, at in unfinished(Registry.at(registry).path.parent)}
    if run is None:
        if not found:
            click.echo("no run is left to go on with")
            return
        rows = [
            (folder.parent.name, path, at, size(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())))
            for path, (folder, at) in found.items()
        ]
        print_table(("name", "folder", "newest checkpoint", "bytes"), rows)
        return
    path = Path(run)
    matching = [path] if (path / RUN_FILE).is_file() else [f for f, _ in found.values() if f.parent.name == run]
    if len(matching) != 1:
        names = [str(f) for f in matching] or [f.parent.name for f, _ in found.values()]
        why = f"several runs of '{run}'; give one of" if matching else unknown("run", run, names, known_as="there are")
        raise RegistryError(f"{why} {', '.join(names)}" if matching else why)
    folder = matching[0]
    count = num_processes or processes_of(folder)
    if count > 1 and processes.launched() == 1:
        sys.exit(launch(without(sys.argv[1:], "--num-processes"), count, launcher_flags))
    plan = Plan.resolve({}, config=read_config(str(folder / RUN_FILE)))
    beside = Registry(folder.parent.parent.parent / Registry.at(registry).path.name)
    report_of(plan, beside.path if registry is None else registry, as_json, resume=True)
