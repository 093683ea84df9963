"""adapt list: what is registered."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, print_json, print_table, registry_option, size
from adapterkit.registry import Registry


@click.command(short_help="List the adapters in the registry.")
@registry_option()
@common_options
def command(registry: Path | None, as_json: bool) -> None:
    """List the adapters in the registry, each with its current version."""
    where = Registry.at(registry)
    adapters = where.adapters()
    current = {name: {"version": a["current"], **a["versions"][a["current"]]} for name, a in adapters.items()}
    if as_json:
        print_json(current)
        return
    if not current:
        click.echo(f"no adapters in {where.path}; `adapt run` makes one")
        return
    rows = [
        [
            name,
            e["task"],
            e["strategy"],
            e["base"]["name"],
            size(e["bytes"]),
            _best(e["metrics"], e.get("best")),
            e["version"],
        ]
        for name, e in current.items()
    ]
    print_table(["name", "task", "strategy", "base", "size", "measured", "version"], rows)


def _best(metrics: dict[str, dict[str, float]], best: str | None) -> str:
    split = "test" if "test" in metrics else "validation"
    if not metrics.get(split, {}).get("n"):
        return "-"  # a merged adapter was measured on nothing
    name = best if best in metrics[split] else next(iter(metrics[split]))
    value = metrics[split][name]
    return f"{name} {value:.3f} ({split}, {int(metrics[split]['n'])})"
