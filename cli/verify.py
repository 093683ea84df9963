"""adapt verify: whether adapters are as they were written."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_names, common_options, print_faults, registry_option
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry


@click.command(short_help="Check every file of adapters against its digest.")
@click.argument("names", nargs=-1, metavar="NAME...", shell_complete=adapter_names)
@click.option("--all", "everything", is_flag=True, help="Check every version of every adapter.")
@registry_option()
@common_options
def command(names: tuple[str, ...], everything: bool, registry: Path | None, as_json: bool) -> None:
    """Check the adapters NAME (NAME@VERSION, NAME@TAG): each file's digest, files too many, and that they can be read.

    Prints a row for each fault; the exit code is 1 where there is one.
    """
    from adapterkit.store.maintenance import verify

    if bool(names) == everything:
        raise OptionError("which adapters? give names, or --all")
    where = Registry.at(registry)
    if everything:
        names = tuple(f"{name}@{version}" for name, known in where.adapters().items() for version in known["versions"])
    found = verify(where, names)
    print_faults(found, as_json, f"{len(names)} checked, nothing wrong", fixes=False)
