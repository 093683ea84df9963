"""adapt strategies: what is installed, read from metadata; nothing is imported."""

from __future__ import annotations

import click

from adapterkit.cli.common import common_options, echo, print_json, print_table
from adapterkit.discovery import installed


@click.command(short_help="List the strategies that are installed.")
@common_options
def command(as_json: bool) -> None:
    """List the strategies that are installed, and the package that each comes from."""
    found = installed()
    if as_json:
        print_json(
            [{"name": f.name, "distribution": f.distribution, "version": f.version, "class": f.target} for f in found]
        )
        return
    print_table(["name", "package", "version", "class"], [[f.name, f.distribution, f.version, f.target] for f in found])
    echo("adapt run --strategy NAME --help shows a strategy's options")
