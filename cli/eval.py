"""adapt eval: an adapter's metrics on labelled rows."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    base_options,
    common_options,
    device_option,
    echo,
    print_json,
    print_table,
    registry_option,
)
from adapterkit.store.registry import Registry


@click.command(short_help="Measure an adapter on labelled rows.")
@adapter_argument()
@click.option(
    "--test-file", "--file", "test_file", metavar="FILE", help="Labelled rows; default: those of its own run."
)
@click.option("--dataset", metavar="NAME", help="demo:NAME or a folder, whose test rows are used.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Which rows; default: test.")
@base_options()
@device_option
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Write metrics, predictions, tables here."
)
@registry_option()
@common_options
def command(
    name: str,
    test_file: str | None,
    dataset: str | None,
    split: str | None,
    base_name: str | None,
    allow_base_mismatch: bool,
    device: str | None,
    output: Path | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Measure the adapter NAME or NAME@VERSION on a file of labelled rows, or again on those of its own run."""
    from adapterkit.workflows.evaluate import evaluate_adapter

    report = evaluate_adapter(
        Registry.at(registry),
        name,
        test_file=test_file,
        dataset=dataset,
        split=split,
        base=base_name,
        allow_base_mismatch=allow_base_mismatch,
        device=device,
        watch=TerminalWatch(),
    )
    if output:
        echo(f"written to {output}: {', '.join(path.name for path in report.write(output))}", err=True)
    if as_json:
        print_json(report.plain())
        return
    measured = report.evaluation.metrics
    lines = [[n, f"{v:.4f}", "{:.4f} to {:.4f}".format(*measured.intervals[n])] for n, v in measured.values.items()]
    print_table([f"{report.split}, {measured.n:,} rows", "value", "95 % interval"], lines)
    for title in ("per_label", "per_type"):
        if table := report.evaluation.tables.get(title):
            echo()
            cells = [[f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values()] for row in table]
            print_table(list(table[0]), cells)
