"""adapt list: what is registered."""

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
from adapterkit.store.registry import Registry


@click.command(short_help="List the adapters in the registry.")
@click.argument("pattern", required=False, shell_complete=adapter_names)
@click.option("--task", help="Only adapters for this task.")
@click.option("--strategy", help="Only adapters of this strategy.")
@click.option("--base", help="Only adapters on this base.")
@registry_option()
@common_options
def command(
    pattern: str | None, task: str | None, strategy: str | None, base: str | None, registry: Path | None, as_json: bool
) -> None:
    """List the adapters in the registry, each with its current version; with PATTERN (mood-*) those that match."""
    if strategy is not None and "@" in strategy:
        bare = strategy.partition("@")[0]
        raise OptionError(
            f"--strategy={strategy} names a package, which adapt show tells; the list takes '{bare}' alone"
        )
    where = Registry.at(registry)
    index = where.index()
    wanted = {"task": task, "strategy": strategy, "base": base}
    # one at a time: ten thousand that are held at once take twice as long
    found = ((name, _current(index[name])) for name in sorted(index) if pattern is None or fnmatchcase(name, pattern))
    shown = ((name, entry) for name, entry in found if _is(entry, wanted))
    if as_json:
        print_json(dict(shown))
        return
    rows = [
        [
            name,
            e["task"],
            e["strategy"],
            e["base"]["name"],
            size(e["bytes"]),
            best_text(e),
            " ".join([e["version"], *e.get("tags", ())]),
        ]
        for name, e in shown
    ]
    if rows:
        print_table(["name", "task", "strategy", "base", "size", "measured", "version"], rows)
    elif index:
        echo(f"no match among {counted(len(index), 'adapter')} in {where.path}")
    else:
        lacks = "no adapters in" if os.path.exists(where.path) else "there is no"
        echo(f"{lacks} {where.path}; `adapt run` makes one")


def _current(known: dict[str, Any]) -> dict[str, Any]:
    tags = [tag for tag, version in known.get("tags", {}).items() if version == known["current"]]
    return {"version": known["current"], **known["versions"][known["current"]], **({"tags": tags} if tags else {})}


def _is(entry: dict[str, Any], wanted: dict[str, str | None]) -> bool:
    own = {**entry, "base": entry["base"].get("name")}
    return all(value is None or own[key] == value for key, value in wanted.items())
