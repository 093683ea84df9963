"""adapt bundle: named lists of adapters."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, registry_option
from adapterkit.errors import OptionError
from adapterkit.store.bundles import bundles, put_bundle
from adapterkit.store.registry import Registry


@click.command(short_help="Name a list of adapters for the server.")
@click.argument("name", required=False)
@click.argument("adapters", nargs=-1)
@click.option("--delete", is_flag=True, help="Delete the bundle.")
@registry_option()
@common_options
def command(name: str | None, adapters: tuple[str, ...], delete: bool, registry: Path | None, as_json: bool) -> None:
    """Name a list of adapters, by which requests to /v1/decisions and /v1/annotate mean all of them.

    Without ADAPTERS, print the bundle; without NAME, print all.

    \b
    adapt bundle triage sentiment-lora topics-head-only@stable
    adapt bundle
    adapt bundle triage --delete
    """
    opened = Registry.at(registry)
    if delete and (adapters or name is None):
        raise OptionError("--delete takes the name of a bundle alone")
    if name is not None and (adapters or delete):
        put_bundle(opened, name, adapters)
    existing = bundles(opened)
    if name is not None and name not in existing and not delete:
        raise OptionError(f"no bundle named '{name}'; there are: {', '.join(existing) or 'none'}")
    shown = {key: existing[key] for key in existing if name in (None, key)}
    if as_json:
        print_json(shown)
        return
    for key, names in shown.items():
        echo(f"{key}: {', '.join(names)}")
    if not shown:
        echo(f"{name} is deleted" if name else "no bundles")
