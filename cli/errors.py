"""adapt errors: the rows that an adapter gets wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    common_options,
    echo,
    labelled_rows_options,
    print_json,
    print_table,
    reading_options,
    registry_option,
)
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry

_MOST_SHARES = 4
"""The most probabilities of a row that are printed; csv and JSON have all."""


@click.command(short_help="List the rows that an adapter gets wrong, the most confident first.")
@adapter_argument()
@labelled_rows_options
@reading_options
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="Number of rows to print; csv has all."
)
@click.option("--csv", "csv_file", metavar="FILE", type=click.Path(), help="Write all errors as csv.")
@registry_option()
@common_options
def command(
    name: str,
    test_file: str | None,
    dataset: str | None,
    split: str | None,
    top: int,
    csv_file: str | None,
    registry: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """List the rows that the adapter NAME gets wrong, with probabilities and the nearest training rows.

    A training row that is near and has the label of the answer may be mislabelled, or the row itself.

    \b
    adapt errors reviews-lora
    adapt errors reviews-lora --test-file more.csv --csv errors.csv
    """
    from adapterkit.report.errors import errors_csv, errors_of

    errors, count, rows = errors_of(
        Registry.at(registry),
        name,
        test_file=test_file,
        dataset=dataset,
        split=split,
        reading=DataOptions(**reading),
        most=None if csv_file else top,
        watch=TerminalWatch(),
    )
    if csv_file:
        from adapterkit.io.atomic import write_file

        write_file(Path(csv_file), errors_csv(errors).encode())
        echo(f"written    {csv_file}", err=True)
    if as_json:
        print_json({"rows": rows, "wrong": count, "errors": [error.plain() for error in errors[:top]]})
        return
    echo(f"{count:,} of {rows:,} rows are wrong")
    table = []
    for error in errors[:top]:
        score = "" if error.answer.score is None else f"{error.answer.score:.3f}"
        shares = ", ".join(f"{label} {p or 0:.2f}" for label, p in list(error.answer.others.items())[:_MOST_SHARES])
        table.append([str(error.line), score, error.expected, error.answer.text, shares, error.text[:100]])
        table += [
            ["", f"{near.similarity:.3f}", f"train:{near.line}", near.label, "", near.text[:100]]
            for near in error.nearest
        ]
    columns = ["line", "score", "expected", "answer", "probabilities", "text"]
    if not any(row[4] for row in table):
        columns, table = [*columns[:4], "text"], [[*row[:4], row[5]] for row in table]
    if table:
        print_table(columns, table, dispensable=("probabilities",))
