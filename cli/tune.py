"""adapt tune: search hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import TerminalWatch, cluster_options, common_options, echo, print_json, print_table
from adapterkit.cli.report import command_line, report_option, write_report
from adapterkit.cli.run import RunCommand, resolved, run_options
from adapterkit.errors import OptionError
from adapterkit.workflows.config_file import read_config

if TYPE_CHECKING:
    from adapterkit.cluster import Placement
    from adapterkit.workflows.tune import Tuned


@click.command(cls=RunCommand, short_help="Search hyperparameters.")
@run_options
@click.option(
    "--search",
    metavar="NAME=VALUES",
    multiple=True,
    help="Choices (r=4,8,16) or a range (learning_rate=1e-4..1e-2) of an option of the strategy or the training; "
    "repeatable. [default: the learning rate and the integer options of the strategy]",
)
@click.option("--trials", type=int, default=20, show_default=True, help="Total number of trials of the study.")
@click.option("--resume", is_flag=True, help="Continue the study --name with the options it was started with.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tuning"),
    help="Folder for studies. [default: tuning]",
)
@cluster_options
@report_option
@common_options
def command(
    config: str | None,
    search: tuple[str, ...],
    trials: int,
    resume: bool,
    out: Path,
    report: str | None,
    as_json: bool,
    placement: Placement,
    **flags: Any,
) -> None:
    """Search the options of a strategy and of the training, scored on the validation rows.

    Every trial trains on the same base and rows; cached activations are shared between trials. An interrupted study
    continues with the same flags, or with --resume and its --name.

    \b
    adapt tune --train-file reviews.csv --trials 10
    adapt tune --train-file reviews.csv --search r=4,8,16 --search learning_rate=1e-4..1e-2
    """
    from adapterkit.cluster import open_executor
    from adapterkit.workflows.plan import Plan
    from adapterkit.workflows.search_study import load_study
    from adapterkit.workflows.tune import tune

    spaces = _spaces(search)
    if resume:
        if not flags["name"]:
            raise OptionError("--resume continues a study; name it with --name")
        begun, before = load_study(out, flags["name"])
        values = {key: value for key, value in flags.items() if value is not None}
        plan = Plan.resolve(values, config={**begun, **(read_config(config) if config else {})})
        spaces = spaces or before
    else:
        plan = resolved(config, flags)
    with open_executor(placement, several=True) as on:
        tuned = tune(plan, out, search=spaces, trials=trials, executor=on, watch=TerminalWatch())
    if report:
        from adapterkit.report.evaluated import search_results

        write_report(search_results(tuned, command_line()), report)
    if as_json:
        print_json(tuned.plain())
    else:
        _show(tuned)


def _spaces(search: tuple[str, ...]) -> dict[str, str]:
    spaces = {}
    for each in search:
        name, equals, values = each.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise OptionError(f"--search {each}: expected NAME=A,B,C or NAME=LOW..HIGH")
        spaces[name.strip().lstrip("-")] = values.strip()
    return spaces


def _show(tuned: Tuned) -> None:
    names = list(tuned.search)
    rows = [
        [
            t.number,
            t.state,
            "-" if t.score is None else f"{t.score:.4f}",
            *(_cell(t.values[name]) for name in names),
            t.epoch or "-",
            f"{t.seconds:.1f}",
        ]
        for t in tuned.trials
    ]
    print_table(["trial", "state", tuned.metric, *names, "epoch", "seconds"], rows)
    echo(f"saved      {tuned.folder}: trials.csv, best.yaml")
    echo(f"best       {tuned.command}")
    echo(f"or         adapt run --config {tuned.folder}/best.yaml")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "+".join(value) if isinstance(value, tuple) else str(value)
