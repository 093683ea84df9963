"""adapt eval: an adapter's metrics on labelled rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    common_options,
    print_json,
    print_table,
    registry_option,
)
from adapterkit.errors import DataError
from adapterkit.registry import Registry


@click.command(short_help="Measure an adapter on labelled rows.")
@adapter_argument()
@click.option(
    "--test-file", "--file", "test_file", metavar="FILE", help="Labelled rows; default: those of its own run."
)
@click.option("--dataset", metavar="NAME", help="demo:NAME or a folder, whose test rows are used.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Which rows; default: test.")
@click.option("--base", "base_name", metavar="NAME", help="Where the base is now; default: where it was in training.")
@registry_option()
@common_options
def command(
    name: str,
    test_file: str | None,
    dataset: str | None,
    split: str | None,
    base_name: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Measure the adapter NAME or NAME@VERSION on a file of labelled rows, or again on those of its own run."""
    from adapterkit import data
    from adapterkit.cli.run import read_config
    from adapterkit.settings import DataOptions
    from adapterkit.workflow import RUN_FILE

    if test_file and dataset:
        raise DataError(f"give --test-file {test_file} or --dataset {dataset}, not both")
    where = Registry.at(registry)
    adapter = where.load(name)
    if test_file:
        options, split = DataOptions(test_file=test_file), "test"
    elif dataset:
        options = DataOptions(dataset=dataset)
    else:
        values = read_config(str(where.folder(*where.resolve(name)) / RUN_FILE))
        known = {f.name for f in dataclasses.fields(DataOptions)}
        options = DataOptions(**{key: value for key, value in values.items() if key in known})
    splits = data.load(options)
    split = split or ("test" if "test" in splits else "validation")
    rows = splits[split]
    adapter.task.check(rows, splits.files[split])

    from adapterkit.base import Base
    from adapterkit.evaluation import evaluate

    stored = adapter.manifest["base"]
    base = Base.load(base_name or stored["name"], revision=stored["revision"])
    metrics = evaluate(base, adapter, rows, watch=TerminalWatch())
    if as_json:
        print_json({"adapter": name, "split": split, "file": splits.files[split], **metrics})
        return
    print_table(["split", *metrics], [[split, *(f"{v:.4f}" if isinstance(v, float) else v for v in metrics.values())]])
