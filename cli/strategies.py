"""adapt strategies: the installed strategies, read from package metadata without importing them."""

from __future__ import annotations

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table
from adapterkit.discovery import installed


@click.command(short_help="List the installed strategies.")
@common_options
def command(as_json: bool) -> None:
    """List the installed strategies and the package of each.

    \b
    adapt strategies
    adapt run --strategy bitfit --help
    """
    plugins = installed()
    if as_json:
        print_json(
            [{"name": f.name, "distribution": f.distribution, "version": f.version, "class": f.target} for f in plugins]
        )
        return
    print_table(
        ["name", "package", "version", "class"], [[f.name, f.distribution, f.version, f.target] for f in plugins]
    )
    echo("adapt run --strategy NAME --help shows a strategy's options")
