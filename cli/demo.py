"""adapt demo: the small data sets that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table
from adapterkit.errors import DataError


@click.command(short_help="List the data sets in the package, or copy one.")
@click.argument("name", required=False)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Copy the files of NAME into this folder."
)
@common_options
def command(name: str | None, out: Path | None, as_json: bool) -> None:
    """List the data sets that come with the package, as in --dataset demo:NAME, or copy the files of one."""
    from adapterkit.data.readers import rows
    from adapterkit.data.splits import demo_files, demo_names

    files = {each: demo_files(each) for each in ([name] if name else demo_names())}
    if name and out:
        there = [out / Path(file).name for file in files[name].values() if (out / Path(file).name).exists()]
        if there:
            raise DataError(f"'{there[0]}' is there already; choose another folder")
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
