"""adapt rollback: make an earlier version current."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Make an earlier version the current one.")
@adapter_argument()
@click.argument("version", required=False)
@registry_option()
@common_options
def command(name: str, version: str | None, registry: Path | None, as_json: bool) -> None:
    """Make VERSION (or a tag) the current version of NAME, by default the previous one. No version is deleted.

    It also restores removed versions whose files still exist.

    \b
    adapt rollback reviews-lora
    adapt rollback reviews-lora best
    """
    current = Registry.at(registry).rollback(name, version)
    if as_json:
        print_json({"name": name, "version": current})
    else:
        echo(f"{name} is {name}@{current}")
