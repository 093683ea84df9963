"""adapt compare: which strategy, on the user's rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    cluster_options,
    common_options,
    echo,
    flag,
    print_json,
    print_table,
    registry_option,
)
from adapterkit.cli.help import help_all_option, task_of, write_sections
from adapterkit.cli.report import command_line, report_option, write_report
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry
from adapterkit.workflows.config_file import read_config

if TYPE_CHECKING:
    from adapterkit.cluster import Placement
    from adapterkit.comparison import Matrix

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class CompareCommand(click.Command):
    """Take the flags of a run that all strategies have in common."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from adapterkit.options import options
        from adapterkit.workflows.plan import SECTIONS, run_options

        if "flags" not in ctx.meta:
            from adapterkit.settings import SavingOptions
            from adapterkit.tasks import TASKS

            names = {name for section in (*SECTIONS, *TASKS.values()) for name in options(section)}
            names -= set(options(SavingOptions)) | {"learning_rate"}
            every = run_options().items()
            ctx.meta["flags"] = [flag(option) for name, option in every if name in names]
        params = super().get_params(ctx)
        return [*params[:-1], *ctx.meta["flags"], params[-1]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        values = {key: value for key, value in ctx.params.items() if value is not None}
        write_sections(ctx, formatter, self.get_params(ctx), None, task_of(values))


def seconds_of(text: str | None) -> float | None:
    """Return the seconds of a text such as 90, 90s, 15m or 1.5h; raises `OptionError` for any other."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None or not float(match[1]):
        raise OptionError(f"--time {text}: expected a time such as 90s, 15m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


@click.command(cls=CompareCommand, short_help="Compare strategies on your rows.")
@click.option(
    "--strategies", metavar="A,B", help="Strategies to compare, separated by commas. [default: all installed]"
)
@click.option("--task", metavar="NAME", help="A task by transformers' name. [default: inferred from the columns]")
@click.option("--name", metavar="NAME", help="Name of the study. [default: DATA-comparison]")
@click.option("--config", metavar="FILE", type=click.Path(), help="Read options from a YAML file; flags override them.")
@click.option("--seeds", type=int, default=1, show_default=True, help="Number of seeds that each strategy trains with.")
@click.option(
    "--trials",
    type=int,
    help="Number of trials of a search for each strategy, after its defaults. [default: 0, or 20 with --time]",
)
@click.option("--time", metavar="TIME", help="Begin no training after this time, such as 15m, and end those under way.")
@click.option(
    "--baselines",
    is_flag=True,
    help="Compare with logistic regression on the base's embeddings, too, and with SetFit where it is installed.",
)
@click.option(
    "--keep",
    type=click.Choice(["best", "all", "none"]),
    default="best",
    show_default=True,
    help="Which adapters to register: the recommended one, all or none.",
)
@click.option(
    "--tasks",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Compare on every data set of a folder: files of rows, and folders with train files.",
)
@click.option("--csv", "csv_file", metavar="FILE", type=click.Path(), help="Write the table as csv.")
@report_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("comparisons"),
    help="Folder for studies. [default: comparisons]",
)
@cluster_options
@registry_option()
@help_all_option
@common_options
def command(
    strategies: str | None,
    config: str | None,
    seeds: int,
    trials: int | None,
    time: str | None,
    baselines: bool,
    keep: Any,
    tasks: Path | None,
    csv_file: str | None,
    report: str | None,
    out: Path,
    registry: Path | None,
    as_json: bool,
    placement: Placement,
    **flags: Any,
) -> None:
    """Train every installed strategy on the same rows, and recommend one.

    Each strategy has its defaults, or with --trials a search. The best is chosen on the validation rows; the test rows
    are measured once, at the end. The same command continues a study that was interrupted.

    \b
    adapt compare --train-file reviews.csv --test-file more.csv --report page.html
    adapt compare --train-file reviews.csv --strategies lora,head-only --seeds 3 --trials 10 --time 15m
    """
    from adapterkit.cluster import open_executor
    from adapterkit.comparison import Options, compare, compare_tasks
    from adapterkit.comparison.plans import plans_of
    from adapterkit.data.splits import check_files

    values = {key: value for key, value in flags.items() if value is not None}
    names = tuple(name.strip() for name in (strategies or "").split(",") if name.strip())
    seconds = seconds_of(time)
    trials = trials if trials is not None else 20 if seconds is not None else 0
    options = Options(names, seeds, trials, seconds, baselines, keep, command_line())
    settings = read_config(config) if config else {}
    if tasks is None:
        check_files(plans_of(values, names, settings).first.data)
    opened = Registry.at(registry)
    with open_executor(placement, several=True) as on:
        how: dict[str, Any] = {"config": settings, "watch": TerminalWatch(), "executor": on}
        if tasks is not None:
            _show_matrix(compare_tasks(values, opened, out, tasks, options, **how), csv_file, report, as_json)
            return
        results = compare(values, opened, out, options, **how)
    from adapterkit.report.texts import csv_text, result_table

    if csv_file:
        _write(csv_file, csv_text(results))
    if report:
        write_report(results, report)
    if as_json:
        print_json(results.plain())
        return
    print_table(*result_table(results), dispensable=("memory", "learned", "beside 31", "rows/s"))
    echo()
    for sentence in results.answer:
        echo(sentence)
    for candidate in results.candidates:
        if candidate.registered:
            echo(f"saved      {candidate.registered}")


def _show_matrix(matrix: Matrix, csv_file: str | None, report: str | None, as_json: bool) -> None:
    """Print strategies by data sets; a page for each data set has its name in that of the file."""
    if csv_file:
        _write(csv_file, matrix.csv_text())
    for name, results in matrix.results.items():
        if report:
            path = Path(report)
            write_report(results, str(path.with_stem(f"{path.stem}-{name}")))
    if as_json:
        print_json(matrix.plain())
        return
    print_table(*matrix.table())
    for name, error in matrix.errors.items():
        echo(f"{name} failed: {error}")
    for name, results in matrix.results.items():
        echo(f"{name}: {results.answer[0]}")


def _write(path: str, text: str) -> None:
    from adapterkit.io.atomic import write_file

    write_file(Path(path), text.encode())
    echo(f"written    {path}", err=True)
