"""adapt info: the environment, for a bug report."""

from __future__ import annotations

import click

from adapterkit.cli.common import common_options, echo, print_json
from adapterkit.errors import printable


@click.command(short_help="Print versions, hardware and plugins for a bug report.")
@common_options
def command(as_json: bool) -> None:
    """Print versions, hardware, precision, plugins and folders for a bug report.

    Names of adapters, files and hosts aren't printed, and the home folder is written as ~.

    \b
    adapt info
    """
    from adapterkit.workflows.environment import environment

    sections = environment()
    if as_json:
        print_json(sections)
        return
    for title, values in sections.items():
        for name, value in values.items():
            echo(printable(f"{title:<10} {name:<40} {value}"))
