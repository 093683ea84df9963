"""adapt resume: continue interrupted runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table, registry_option
from adapterkit.cli.run import launching, report_of
from adapterkit.store.registry import Registry


@click.command(short_help="Continue an interrupted run from its last checkpoint.")
@click.argument("run", required=False)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code of the base's repository, as the run did.")
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
    """Continue RUN, the name of an adapter or a folder in runs/; without RUN, list the interrupted runs.

    It starts as many processes as the run had. Where several runs of one name were interrupted, RUN is the folder of
    one. A damaged checkpoint is reported, and the one before it is loaded.

    \b
    adapt resume
    adapt resume reviews-lora
    """
    from adapterkit.execution import processes
    from adapterkit.workflows.resume import interrupted_run, interrupted_runs, resumed_plan

    opened = Registry.at(registry)
    if run is None:
        rows = [one.plain() for one in interrupted_runs(opened)]
        if as_json:
            print_json(rows)
        elif rows:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            echo(f"no interrupted runs in {opened.path.parent / 'runs'}")
        return
    allowed = {"trust_remote_code": True} if trust_remote_code else {}
    plan, beside, count = resumed_plan(interrupted_run(opened, run), **allowed)
    count = num_processes or count
    if count > 1 and processes.launched() == 1:
        from adapterkit.cli.launch import launch, without

        sys.exit(launch(without(sys.argv[1:], "--num-processes"), count, launcher_flags))
    report_of(plan, registry or beside.path, as_json, resume=True)
