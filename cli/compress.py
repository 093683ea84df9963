"""adapt compress: an adapter again, in fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    common_options,
    echo,
    encoding_text,
    print_json,
    registry_option,
    size,
)
from adapterkit.store.registry import Registry, check_name

if TYPE_CHECKING:
    from datasets import Dataset

    from adapterkit.tasks import Task
    from adapterkit.watch import Watch


@click.command(short_help="Save an adapter again in fewer bytes.")
@adapter_argument()
@click.option("--as", "encoding", metavar="ENCODING", required=True, help="exact, bf16, 1bit, or rank:R as in rank:8.")
@click.option("--to", metavar="NAME", help="Register it by this name; default: a new version of the same adapter.")
@click.option("--train-file", metavar="FILE", help="Rows to fit 1bit's scales on; default: those of its own run.")
@click.option("--test-file", metavar="FILE", help="Rows to measure before and after; default: those of its own run.")
@click.option("--base", "base_name", metavar="NAME", help="Where the base is now; default: where it was in training.")
@registry_option()
@common_options
def command(
    name: str,
    encoding: str,
    to: str | None,
    train_file: str | None,
    test_file: str | None,
    base_name: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Save the adapter NAME or NAME@VERSION in an encoding, register it, and measure it before and after.

    exact is lossless, bf16 halves any adapter, 1bit keeps the signs of what a full or layer-wise fine-tune changed,
    rank:R makes it a low-rank update.
    """
    from adapterkit.settings import RUN_FILE, check_encoding

    check_encoding(encoding)
    where = Registry.at(registry)
    known, version = where.resolve(name)
    to = known if to is None else check_name(to)
    adapter = where.load(f"{known}@{version}")

    from adapterkit.convert.compress import check_kinds, compress

    check_kinds(adapter, encoding)
    where.prepare()
    watch = TerminalWatch()
    splits = rows_of(where, name, adapter.task, train_file, test_file, watch)

    from adapterkit.base.base import Base
    from adapterkit.store.publish import publish

    stored = adapter.manifest["base"]
    base = Base.from_manifest(stored, where.locate(stored["name"]) if base_name is None else base_name)
    about = {"compressed_from": {"name": known, "version": version}}
    encoded = compress(base, adapter, encoding, splits, about=about, watch=watch)
    run_file = where.folder(known, version) / RUN_FILE
    new, count = publish(where, to, encoded, run_file=run_file.read_bytes() if run_file.exists() else None)
    report = {"name": to, "version": new, "folder": str(where.folder(to, new)), **encoded.manifest["encoding"]}
    if as_json:
        print_json(report)
        return
    echo(f"encoded    {encoding_text(encoded.manifest['encoding'])}")
    echo(f"saved      {report['folder']}: {size(count)}, {count / base.nbytes:.2%} of the base")


def rows_of(
    where: Registry, name: str, task: Task, train_file: str | None, test_file: str | None, watch: Watch
) -> dict[str, Dataset]:
    """Return the rows of an adapter's own run by split, those of files in their place where they are given."""
    from adapterkit.data import splits as data
    from adapterkit.settings import DataOptions
    from adapterkit.workflows.recorded_rows import own_rows

    task.check_named()
    given = {"train": (train_file, DataOptions(train_file=train_file))}
    given |= {"test": (test_file, DataOptions(test_file=test_file))}
    sets: dict[str, Dataset] = {}
    if train_file is None or test_file is None:
        own = own_rows(where, name, task, watch)
        for split, rows in own.sets.items():  # which may be others than they were in the run
            task.check(rows, own.files[split])
        sets |= own.sets
    for split, (path, options) in given.items():
        if path is not None:
            sets[split] = data.load(options, watch)[split]
            task.check(sets[split], path)
    return sets
