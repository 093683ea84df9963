"""adapt base: where a base lies."""

from __future__ import annotations

import click

from adapterkit.cli.common import common_options, echo, print_json


@click.command(short_help="Print where a base lies, to use it with other tools.")
@click.argument("name")
@common_options
def command(name: str, as_json: bool) -> None:
    """Print the folder of a base, or the Hub id that it is; of an installed one, its weights are verified first."""
    from adapterkit.base.checkpoint import find_base

    if as_json:
        print_json({"name": name, "path": find_base(name)})
        return
    echo(find_base(name))
