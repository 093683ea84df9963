"""adapt search: the texts of a file that are nearest to a query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_names,
    base_options,
    common_options,
    device_option,
    print_json,
    print_table,
    reading_options,
    registry_option,
)
from adapterkit.data.readers import ReadOptions
from adapterkit.data.streams import from_file
from adapterkit.errors import OptionError
from adapterkit.settings import DataOptions
from adapterkit.store.registry import Registry


@click.command(short_help="Find the texts of a file that are nearest to a query.")
@click.argument("name", shell_complete=adapter_names)
@click.argument("queries", nargs=-1, metavar="QUERY...")
@click.option("--corpus", metavar="FILE", required=True, help="Rows to search: txt, csv, tsv, jsonl, json, parquet.")
@click.option("--text-column-name", "--text-column", "column", metavar="A", help="Column of the corpus to search.")
@click.option("--top", "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Rows for each query.")
@reading_options
@base_options()
@device_option
@registry_option()
@common_options
def command(
    name: str,
    queries: tuple[str, ...],
    corpus: str,
    column: str | None,
    top: int,
    base_name: str | None,
    allow_base_mismatch: bool,
    device: str | None,
    registry: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Print the rows of the corpus that are nearest to each query, by an adapter for sentence similarity.

    \b
    adapt search questions-lora --corpus faq.csv "how do I get my money back?"
    """
    if not queries:
        raise OptionError('no query; use adapt search NAME --corpus FILE "a text"')
    rows = from_file(corpus, ReadOptions.of(DataOptions(**reading)))
    opened = Registry.at(registry)
    adapter = opened.load(name)
    from adapterkit.pool import Pool
    from adapterkit.workflows.registered import load_base
    from adapterkit.workflows.search import search

    with Pool(
        opened, base=load_base(opened, adapter, base_name), device=device, allow_base_mismatch=allow_base_mismatch
    ) as pool:
        hits = search(pool, name, queries, rows, column=column, most=top, watch=TerminalWatch())
    listed = [
        {"query": query, "score": hit.score, "line": hit.line, **{k: v for k, v in hit.row.items() if k != "query"}}
        for query, of_query in zip(queries, hits, strict=True)
        for hit in of_query
    ]
    if as_json:
        print_json(listed)
        return
    names = [key for key in listed[0] if key != "query" or len(queries) > 1]
    print_table(
        names, [[f"{v:.3f}" if k == "score" else str(v) for k, v in hit.items() if k in names] for hit in listed]
    )
