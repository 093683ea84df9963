"""adapt registry: look after registry.json."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import registry_option
from adapterkit.registry import Registry


@click.group(short_help="Look after registry.json.")
def command() -> None:
    """Look after registry.json, the index of the store beside it."""


@command.command()
@registry_option()
def rebuild(registry: Path | None) -> None:
    """Make registry.json again from the store."""
    where = Registry.at(registry)
    adapters, left_out = where.rebuild()
    for reason in left_out:
        click.echo(f"left out   {reason}", err=True)
    versions = sum(len(a["versions"]) for a in adapters.values())
    click.echo(f"{where.path}: {len(adapters)} adapters, {versions} versions")
