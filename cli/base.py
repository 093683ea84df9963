"""adapt base: the folder of a base model."""

from __future__ import annotations

import click

from adapterkit.cli.common import common_options, echo, print_json


@click.command(short_help="Print the folder of a base model.")
@click.argument("name")
@common_options
def command(name: str, as_json: bool) -> None:
    """Print the folder of a base model or its Hub id; the weights of an installed base are verified first.

    \b
    adapt base minilm
    adapt base minilm --json
    """
    from adapterkit.base.checkpoint import find_base

    if as_json:
        print_json({"name": name, "path": find_base(name)})
        return
    echo(find_base(name))
