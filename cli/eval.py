"""adapt eval: an adapter's metrics on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    base_options,
    common_options,
    echo,
    moved,
    print_json,
    print_table,
    registry_option,
)
from adapterkit.errors import DataError
from adapterkit.evaluation.report import write_evaluation
from adapterkit.store.registry import Registry
from adapterkit.workflows.recorded_rows import own_rows

if TYPE_CHECKING:
    pass


@click.command(short_help="Measure an adapter on labelled rows.")
@adapter_argument()
@click.option(
    "--test-file", "--file", "test_file", metavar="FILE", help="Labelled rows; default: those of its own run."
)
@click.option("--dataset", metavar="NAME", help="demo:NAME or a folder, whose test rows are used.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Which rows; default: test.")
@base_options()
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
    output: Path | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Measure the adapter NAME or NAME@VERSION on a file of labelled rows, or again on those of its own run."""
    from adapterkit.data import splits as data
    from adapterkit.settings import DataOptions

    if test_file and dataset:
        raise DataError(f"give --test-file {test_file} or --dataset {dataset}, not both")
    where = Registry.at(registry)
    adapter = where.load(name)
    watch = TerminalWatch()
    if test_file:
        splits, split = data.load(DataOptions(test_file=test_file), watch), "test"
    elif dataset:
        splits = data.load(DataOptions(dataset=dataset), watch)
    else:
        splits = own_rows(where, name, adapter.task, watch)
    for remark in splits.notes:
        watch.note("", remark)
    split = split or ("test" if "test" in splits else "validation")
    rows = splits[split]
    adapter.task.check_named()
    adapter.task.check(rows, splits.files[split])

    from adapterkit.base.base import Base
    from adapterkit.evaluation.evaluate import evaluate, metrics_plain

    stored = adapter.manifest["base"]
    base = Base.again(stored, where.locate(stored["name"]) if base_name is None else base_name)
    adapter = moved(name, adapter, base, allow_base_mismatch)
    found = evaluate(base, adapter, rows, watch=watch)
    metrics = {"adapter": name, "split": split, "file": splits.files[split], **metrics_plain(found.metrics)}
    if adapter.mismatch:
        metrics["base_mismatch"] = adapter.manifest["base"]["mismatch"]
    if output:
        write_evaluation(output, metrics, rows, found)
        echo(f"written to {output}: {', '.join(sorted(p.name for p in output.iterdir()))}", err=True)
    if as_json:
        print_json({**metrics, **found.tables})
        return
    intervals = found.metrics.intervals
    lines = [[n, f"{v:.4f}", "{:.4f} to {:.4f}".format(*intervals[n])] for n, v in found.metrics.values.items()]
    print_table([f"{split}, {found.metrics.n:,} rows", "value", "95 % interval"], lines)
    for title in ("per_label", "per_type"):
        table = found.tables.get(title)
        if table:
            echo()
            print_table(
                list(table[0]), [[f"{c:.4f}" if isinstance(c, float) else c for c in r.values()] for r in table]
            )
