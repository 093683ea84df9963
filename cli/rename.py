"""adapt rename: rename an adapter."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_names, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Rename an adapter.")
@click.argument("old", shell_complete=adapter_names)
@click.argument("new")
@registry_option()
@common_options
def command(old: str, new: str, registry: Path | None, as_json: bool) -> None:
    """Rename the adapter OLD, with all its versions and tags, to NEW. Its files are not moved.

    \b
    adapt rename reviews-lora reviews
    adapt rename reviews products --registry shared/registry.json
    """
    Registry.at(registry).rename(old, new)
    if as_json:
        print_json({"old": old, "name": new})
    else:
        echo(f"{old} is {new} now")
