"""adapt list: what is registered."""

from __future__ import annotations

import gc
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    adapter_names,
    best_text,
    common_options,
    print_json,
    print_table,
    registry_option,
    size,
)
from adapterkit.registry import Registry


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
    gc.disable()  # which else takes half of the time that it takes to read ten thousand entries; the process ends soon
    where = Registry.at(registry)
    adapters = where.adapters()
    wanted = {"task": task, "strategy": strategy, "base": base}
    shown = {n: _current(known) for n, known in adapters.items() if _matches(n, pattern)}
    shown = {name: e for name, e in shown.items() if _is(e, wanted)}
    if as_json:
        print_json(shown)
        return
    if not shown:
        least = f"none of {len(adapters):,} adapters" if adapters else "no adapters"
        click.echo(f"{least} in {where.path}{' match' if adapters else '; `adapt run` makes one'}")
        return
    print_table(
        ["name", "task", "strategy", "base", "size", "measured", "version"],
        [
            [
                name,
                e["task"],
                e["strategy"],
                e["base"]["name"],
                size(e["bytes"]),
                best_text(e),
                " ".join([e["version"], *e.get("tags", ())]),
            ]
            for name, e in shown.items()
        ],
    )


def _current(known: dict[str, Any]) -> dict[str, Any]:
    tags = [tag for tag, version in known.get("tags", {}).items() if version == known["current"]]
    return {"version": known["current"], **known["versions"][known["current"]], **({"tags": tags} if tags else {})}


def _matches(name: str, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(name, pattern)


def _is(entry: dict[str, Any], wanted: dict[str, str | None]) -> bool:
    own = {**entry, "base": entry["base"].get("name")}
    return all(value is None or own[key] == value for key, value in wanted.items())
