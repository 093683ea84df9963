"""adapt remove: remove adapters and versions from the registry."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Remove an adapter or a version from the registry.")
@adapter_argument()
@registry_option()
@common_options
def command(name: str, registry: Path | None, as_json: bool) -> None:
    """Remove the adapter NAME, or only NAME@VERSION, from the registry. Its files stay until `adapt gc`.

    \b
    adapt remove reviews-lora
    adapt remove reviews-lora@1a2b3c
    """
    reference = name
    name, gone, current = Registry.at(registry).remove(reference)
    if as_json:
        print_json({"name": name, "removed": gone, "version": current})
        return
    undo = f"adapt rollback {name}" + (f" {gone[0]}" if "@" in reference else "")
    rest = f"; current is {name}@{current}" if current else ""
    echo(f"removed    {', '.join(f'{name}@{version}' for version in gone)}{rest}")
    echo(f"undo       {undo}   (until adapt gc)")
