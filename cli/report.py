"""adapt report: registered adapters, measured on their rows, as one HTML page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_names,
    common_options,
    device_option,
    echo,
    print_json,
    reading_options,
    registry_option,
)
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry

if TYPE_CHECKING:
    from adapterkit.report.results import Results


def report_option(command: Any) -> Any:
    """Add --report."""
    return click.option(
        "--report",
        metavar="FILE.html",
        type=click.Path(),
        callback=_checked,
        help="Write the result as one HTML page, and as JSON.",
    )(command)


def _checked(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Check, before any work, that the page can be written."""
    if path is not None and not ctx.resilient_parsing:
        from adapterkit.report.page import check_page

        check_page(Path(path))
    return path


def command_line() -> str:
    """Return the command line of this process; empty where it isn't one of adapt's."""
    from adapterkit.cli.main import COMMANDS

    return shlex.join(["adapt", *sys.argv[1:]]) if sys.argv[1:] and sys.argv[1] in COMMANDS else ""


def write_report(results: Results, path: str) -> None:
    """Write results as a page, and beside it as JSON."""
    from adapterkit.report.page import write_page

    for file in write_page(results, Path(path)):
        echo(f"written    {file}", err=True)


@click.command(short_help="Write adapters, measured on their rows, as one HTML page.")
@click.argument("names", nargs=-1, shell_complete=adapter_names, metavar="NAME...")
@click.option("--test-file", "--file", "test_file", metavar="FILE", help="Labelled rows. [default: those of the run]")
@click.option("--dataset", metavar="NAME", help="demo:NAME, or a folder with train, validation and test files.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Rows to use. [default: test]")
@reading_options
@device_option
@click.option(
    "--results", metavar="FILE.json", type=click.Path(), help="Make the page of a results file that was written before."
)
@click.option("--out", metavar="FILE.html", type=click.Path(), callback=_checked, help="The page. [default: NAME.html]")
@registry_option()
@common_options
def command(
    names: tuple[str, ...],
    test_file: str | None,
    dataset: str | None,
    split: str | None,
    device: str | None,
    results: str | None,
    out: str | None,
    registry: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Measure adapters on the same rows and write a page: metrics, errors, calibration, slices.

    \b
    adapt report reviews-lora reviews-head-only --out reviews.html
    adapt report --results comparisons/reviews-comparison/results.json --out page.html
    """
    from adapterkit.errors import OptionError
    from adapterkit.report.evaluated import adapter_results
    from adapterkit.report.results import read_results

    if results is not None:
        if names:
            raise OptionError(f"give --results {results} or the names of adapters, not both")
        measured = read_results(results)
    else:
        measured = adapter_results(
            Registry.at(registry),
            names,
            test_file=test_file,
            dataset=dataset,
            split=split,
            reading=DataOptions(**reading),
            device=device,
            command=command_line(),
            watch=TerminalWatch(),
        )
    default = f"{names[0].replace('@', '-')}.html" if names else str(Path(str(results)).with_suffix(".html"))
    write_report(measured, out or default)
    if as_json:
        print_json(measured.plain())
        return
    for sentence in measured.answer:
        echo(sentence)
