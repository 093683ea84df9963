"""adapt registry: rebuild registry.json."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, counted, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.group(short_help="Rebuild registry.json from the store.")
def command() -> None:
    """Maintain registry.json, the index of the store beside it."""


@command.command()
@registry_option()
@common_options
def rebuild(registry: Path | None, as_json: bool) -> None:
    """Rebuild registry.json from the manifests in the store.

    \b
    adapt registry rebuild
    adapt registry rebuild --registry shared/registry.json
    """
    opened = Registry.at(registry)
    adapters, left_out = opened.rebuild()
    for reason in left_out:
        echo(f"left out   {reason}", err=True)
    if as_json:
        print_json({"adapters": adapters, "left_out": left_out})
        return
    versions = sum(len(a["versions"]) for a in adapters.values())
    echo(f"{opened.path}: {counted(len(adapters), 'adapter')}, {counted(versions, 'version')}")
