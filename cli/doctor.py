"""adapt doctor: faults of a registry and its store."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_faults, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Find and repair faults of the registry.")
@click.option("--fix", is_flag=True, help="Repair the faults; without it nothing is changed.")
@registry_option()
@common_options
def command(fix: bool, registry: Path | None, as_json: bool) -> None:
    """Find leftover files, versions missing from registry.json, entries without files, damage, broken file locks.

    Prints a row for each fault and what --fix does about it. The exit code is 1 if there are faults, with --fix if
    faults remain.

    \b
    adapt doctor
    adapt doctor --fix
    """
    from adapterkit.store.maintenance import doctor

    opened = Registry.at(registry)
    faults = doctor(opened, fix=fix)
    if fix:
        remaining = doctor(opened)
        mended = [fault for fault in faults if fault not in remaining]
        if not as_json:
            for fault in mended:
                echo(f"done       {fault.place}: {fault.what}: {fault.fix}")
        faults = remaining
    print_faults(faults, as_json, f"{opened.path}: nothing wrong", fixes=True)
