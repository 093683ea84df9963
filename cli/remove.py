"""adapt remove: adapters and versions that are no longer wanted."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Take an adapter or a version of it out of the registry.")
@adapter_argument()
@registry_option()
@common_options
def command(name: str, registry: Path | None, as_json: bool) -> None:
    """Take the adapter NAME, or only NAME@VERSION, out of the registry. Its files stay until `adapt gc`."""
    reference = name
    name, gone, current = Registry.at(registry).remove(reference)
    if as_json:
        print_json({"name": name, "removed": gone, "version": current})
        return
    undo = f"adapt rollback {name}" + (f" {gone[0]}" if "@" in reference else "")
    rest = f"; current is {name}@{current}" if current else ""
    echo(f"removed    {', '.join(f'{name}@{version}' for version in gone)}{rest}")
    echo(f"undo       {undo}   (until adapt gc)")
