"""adapt tag: name versions."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Name a version of an adapter.")
@adapter_argument()
@click.argument("tag")
@click.option("--delete", is_flag=True, help="Delete the tag.")
@registry_option()
@common_options
def command(name: str, tag: str, delete: bool, registry: Path | None, as_json: bool) -> None:
    """Tag the current version of NAME, or NAME@VERSION, as NAME@TAG; an existing tag moves.

    \b
    adapt tag reviews-lora best
    adapt tag reviews-lora best --delete
    """
    opened = Registry.at(registry)
    if delete:
        opened.untag(name, tag)
        version = None
    else:
        name, version = opened.tag(name, tag)
    if as_json:
        print_json({"name": name, "tag": tag, "version": version})
    else:
        echo(f"{name}@{tag} is {'no more' if version is None else f'{name}@{version}'}")
