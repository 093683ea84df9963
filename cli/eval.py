"""adapt eval: an adapter's metrics on labelled rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from adapterkit.settings import RUN_FILE
from adapterkit.store.registry import Registry
from adapterkit.watch import Watch

if TYPE_CHECKING:
    from adapterkit.data.splits import Splits
    from adapterkit.tasks import Task


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


def own_rows(where: Registry, name: str, task: Task, watch: Watch) -> Splits:
    """Return the rows of an adapter's own run, its files found from here or from the registry's folder."""
    from adapterkit.cli.run import read_run
    from adapterkit.options import build, options
    from adapterkit.settings import DataOptions, TrainingOptions
    from adapterkit.workflows.run import own_splits

    run_file = where.folder(*where.resolve(name)) / RUN_FILE
    if not run_file.exists():
        raise DataError(f"'{name}' comes from no run that names its data; give rows by file")
    values = read_run(run_file)
    own = {key: values[key] for key in options(DataOptions) if key in values}
    for key in ("dataset", "train_file", "validation_file", "test_file"):
        if isinstance(own.get(key), str):
            own[key] = where.locate(own[key])
    seed = build(TrainingOptions, {key: value for key, value in values.items() if key == "seed"}).seed
    return own_splits(build(DataOptions, own), seed, task, watch)


def write_evaluation(output: Path, metrics: dict[str, Any], rows: Any, found: Any) -> None:
    """Write metrics.json, predictions.jsonl and, for classification, confusion_matrix.csv into a folder."""
    from adapterkit.data.splits import LINE
    from adapterkit.io.atomic import json_bytes, write_file

    output.mkdir(parents=True, exist_ok=True)
    write_file(output / "metrics.json", json_bytes({**metrics, **found.tables}))
    if found.answers:
        given = rows.remove_columns([LINE])
        lines = [
            json.dumps({**row, "prediction": answer}, ensure_ascii=False, default=str)
            for row, answer in zip(given, found.answers, strict=True)
        ]
        write_file(output / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
    if "confusion_matrix" in found.tables:
        labels = found.tables["labels"]
        with (output / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["true \\ predicted", *labels])
            table.writerows(
                [label, *counts] for label, counts in zip(labels, found.tables["confusion_matrix"], strict=True)
            )
