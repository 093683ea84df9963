"""adapt verify: check the files of adapters."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_names, common_options, print_faults, registry_option
from adapterkit.errors import OptionError
from adapterkit.store.registry import Registry


@click.command(short_help="Check the files of adapters against their digests.")
@click.argument("names", nargs=-1, metavar="NAME...", shell_complete=adapter_names)
@click.option("--all", "everything", is_flag=True, help="Check every version of every adapter.")
@registry_option()
@common_options
def command(names: tuple[str, ...], everything: bool, registry: Path | None, as_json: bool) -> None:
    """Check the adapters NAME (NAME@VERSION, NAME@TAG): digests, unexpected files, and that they can be read.

    Prints a row for each fault; the exit code is 1 if there are any.

    \b
    adapt verify reviews-lora
    adapt verify --all
    """
    from adapterkit.store.maintenance import verify

    if bool(names) == everything:
        raise OptionError("which adapters? give names, or --all")
    opened = Registry.at(registry)
    if everything:
        names = tuple(f"{name}@{version}" for name, entry in opened.adapters().items() for version in entry["versions"])
    faults = verify(opened, names)
    print_faults(faults, as_json, f"{len(names)} checked, nothing wrong", fixes=False)
