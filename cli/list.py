"""adapt list: the registered adapters."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    adapter_names,
    best_text,
    common_options,
    counted,
    echo,
    print_json,
    print_table,
    registry_option,
    size,
)
from adapterkit.errors import OptionError
from adapterkit.store.object_store import is_url
from adapterkit.store.registry import Registry


@click.command(short_help="List the registered adapters.")
@click.argument("pattern", required=False, shell_complete=adapter_names)
@click.option("--task", metavar="NAME", help="Only adapters for this task.")
@click.option("--strategy", metavar="NAME", help="Only adapters trained with this strategy.")
@click.option("--base", metavar="NAME", help="Only adapters of this base.")
@registry_option()
@common_options
def command(
    pattern: str | None, task: str | None, strategy: str | None, base: str | None, registry: Path | None, as_json: bool
) -> None:
    """List the registered adapters with their current versions, or those whose names match PATTERN.

    \b
    adapt list
    adapt list 'reviews-*' --strategy lora
    """
    if strategy is not None and "@" in strategy:
        bare = strategy.partition("@")[0]
        raise OptionError(f"--strategy={strategy}: expected a name without its package, as in --strategy {bare}")
    opened = Registry.at(registry)
    index = opened.index()
    wanted = {"task": task, "strategy": strategy, "base": base}
    names = (name for name in sorted(index) if pattern is None or fnmatchcase(name, pattern))
    # lazily: holding ten thousand entries at once takes twice as long
    matches = ((name, entry) for name in names if _matches(entry := _current(index[name]), wanted))
    if as_json:
        print_json(dict(matches))
        return
    rows = [
        [
            name,
            entry["task"],
            entry["strategy"],
            entry["base"]["name"],
            size(entry["bytes"]),
            best_text(entry),
            " ".join([entry["version"], *entry.get("tags", ())]),
        ]
        for name, entry in matches
    ]
    columns = ["name", "task", "strategy", "base", "size", "measured", "version"]
    if rows:
        print_table(columns, rows, dispensable=["size", "base", "task", "version"])
    elif index:
        echo(f"no match among {counted(len(index), 'adapter')} in {opened.path}")
    else:
        location = registry if is_url(registry) else opened.path  # of a URL, not its local copy
        problem = "no adapters in" if location is registry or os.path.exists(opened.path) else "no file"
        echo(f"{problem} {location}; adapt run creates one")


def _current(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an adapter's current version, with its tags."""
    tags = [tag for tag, version in entry.get("tags", {}).items() if version == entry["current"]]
    return {"version": entry["current"], **entry["versions"][entry["current"]], **({"tags": tags} if tags else {})}


def _matches(entry: dict[str, Any], wanted: dict[str, str | None]) -> bool:
    values = {**entry, "base": entry["base"].get("name")}
    return all(value is None or values[key] == value for key, value in wanted.items())
