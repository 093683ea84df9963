"""adapt eval: an adapter's metrics on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    base_options,
    common_options,
    device_option,
    echo,
    labelled_rows_options,
    print_json,
    print_table,
    reading_options,
    registry_option,
)
from adapterkit.cli.report import command_line, report_option, write_report
from adapterkit.errors import OptionError
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry


@click.command(short_help="Evaluate an adapter on labelled rows.")
@adapter_argument()
@labelled_rows_options
@click.option("--text-column-name", "--text-column", "text_columns", metavar="A,B", help="Columns to read.")
@click.option("--label-column-name", "--label-column", "label_column", metavar="NAME", help="Column of the labels.")
@click.option("--corpus", metavar="FILE", help="Measure the search of this corpus instead; or a folder as BEIR's.")
@click.option("--queries", metavar="FILE", help="Queries with ids, for --corpus.")
@click.option("--qrels", metavar="FILE", help="Judgements, for --corpus: TREC's qrels, or BEIR's tsv.")
@click.option("--skip-bad-rows", is_flag=True, help="Skip rows that can't be read or used, and report how many.")
@reading_options
@base_options()
@device_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write metrics.json, predictions.jsonl and confusion_matrix.csv to this folder.",
)
@report_option
@registry_option()
@common_options
def command(
    name: str,
    test_file: str | None,
    dataset: str | None,
    split: str | None,
    text_columns: str | None,
    label_column: str | None,
    corpus: str | None,
    queries: str | None,
    qrels: str | None,
    base_name: str | None,
    allow_base_mismatch: bool,
    device: str | None,
    output: Path | None,
    report: str | None,
    registry: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Evaluate the adapter NAME or NAME@VERSION on labelled rows, by default on the test rows of its run.

    \b
    adapt eval reviews-lora
    adapt eval reviews-lora --test-file more.csv --output report
    adapt eval reviews-lora --test-file survey.csv --text-column comment --label-column mood
    adapt eval questions-lora --corpus corpus.jsonl --queries queries.jsonl --qrels qrels.tsv
    """
    if corpus or queries or qrels:
        others = {"--test-file": test_file, "--dataset": dataset, "--split": split, "--output": output}
        others |= {"--label-column": label_column, "--report": report}
        files = (corpus, queries, qrels)
        measure_retrieval(registry, name, files, others, text_columns, base_name, allow_base_mismatch, device, as_json)
        return
    from adapterkit.workflows.evaluate import evaluate_adapter

    measured = evaluate_adapter(
        Registry.at(registry),
        name,
        test_file=test_file,
        dataset=dataset,
        split=split,
        text_columns=text_columns.split(",") if text_columns else (),
        label_column=label_column,
        reading=DataOptions(**reading),
        base=base_name,
        allow_base_mismatch=allow_base_mismatch,
        device=device,
        watch=TerminalWatch(),
    )
    if output:
        echo(f"written    {output}: {', '.join(path.name for path in measured.write(output))}", err=True)
    if report:
        from adapterkit.report.evaluated import results_of

        index = Registry.at(registry)
        write_report(results_of(index, [(measured, index.load(name))], command_line()), report)
    if as_json:
        print_json(measured.plain())
        return
    print_table(*measured.table())
    confusion = measured.confusion_table()
    for table in [*measured.label_tables(), *([confusion] if confusion else [])]:
        echo()
        print_table(*table)


def measure_retrieval(
    registry: Path | None,
    name: str,
    files: tuple[str | None, str | None, str | None],
    others: dict[str, Any],
    column: str | None,
    base_name: str | None,
    allow_base_mismatch: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Print the metrics of a search of a corpus, by `files`: corpus, queries and qrels."""
    corpus, queries, qrels = files
    if corpus is None:
        raise OptionError("--queries and --qrels need --corpus FILE")
    if unused := [flag for flag, value in others.items() if value]:
        raise OptionError(f"{unused[0]} is of labelled rows, and --corpus measures a search; give one of them")
    opened = Registry.at(registry)
    adapter = opened.load(name)
    from adapterkit.pool import Pool
    from adapterkit.workflows.registered import load_base
    from adapterkit.workflows.retrieval import Collection, evaluate_retrieval

    collection = Collection.of(corpus, queries, qrels)
    with Pool(
        opened, base=load_base(opened, adapter, base_name), device=device, allow_base_mismatch=allow_base_mismatch
    ) as pool:
        measured = evaluate_retrieval(pool, name, collection, column=column, watch=TerminalWatch())
    if as_json:
        print_json(measured.plain())
    else:
        print_table(*measured.table())
