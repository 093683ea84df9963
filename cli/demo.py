"""adapt demo: the demo data sets in the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table
from adapterkit.errors import DataError


@click.command(short_help="List or copy the demo data sets.")
@click.argument("name", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Copy the files of NAME to this folder.")
@common_options
def command(name: str | None, out: Path | None, as_json: bool) -> None:
    """List the demo data sets, which `adapt run --dataset demo:NAME` reads, or copy the files of one.

    \b
    adapt demo
    adapt demo topics --out data
    """
    from adapterkit.data.readers import rows
    from adapterkit.data.splits import demo_files, demo_names

    files = {each: demo_files(each) for each in ([name] if name else demo_names())}
    if name and out:
        existing = [out / Path(file).name for file in files[name].values() if (out / Path(file).name).exists()]
        if existing:
            raise DataError(f"'{existing[0]}' already exists; choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        for file in files[name].values():
            shutil.copyfile(file, out / Path(file).name)
        echo(f"{out}: {', '.join(sorted(Path(file).name for file in files[name].values()))}")
        return
    counts = {each: {s: sum(1 for _ in rows(file)) for s, file in splits.items()} for each, splits in files.items()}
    if as_json:
        print_json(counts)
        return
    print_table(
        ["name", "rows", "file"],
        [
            [f"demo:{each}", ", ".join(f"{s} {n}" for s, n in counts[each].items()), Path(splits["train"]).name]
            for each, splits in files.items()
        ],
    )
