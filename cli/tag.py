"""adapt tag: names for versions."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Give a version of an adapter a name of its own.")
@adapter_argument()
@click.argument("tag")
@click.option("--delete", is_flag=True, help="Take the tag away.")
@registry_option()
@common_options
def command(name: str, tag: str, delete: bool, registry: Path | None, as_json: bool) -> None:
    """Call the adapter NAME, or NAME@VERSION, also NAME@TAG; a tag that is there moves."""
    where = Registry.at(registry)
    if delete:
        where.untag(name, tag)
        version = None
    else:
        name, version = where.tag(name, tag)
    if as_json:
        print_json({"name": name, "tag": tag, "version": version})
    else:
        echo(f"{name}@{tag} is {'no more' if version is None else f'{name}@{version}'}")
