"""adapt doctor: what is wrong with a registry and its store."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_faults, registry_option
from adapterkit.store.registry import Registry


@click.command(short_help="Find what is wrong with a registry, and put it right.")
@click.option("--fix", is_flag=True, help="Do what it says; without this, nothing is changed.")
@registry_option()
@common_options
def command(fix: bool, registry: Path | None, as_json: bool) -> None:
    """Find leftovers, versions that registry.json lost, entries without files, damage, and a lock that is no lock.

    Prints a row for each with what --fix does about it. The exit code is 1 where something is wrong, and with --fix
    where something is left.
    """
    from adapterkit.store.maintenance import doctor

    where = Registry.at(registry)
    found = doctor(where, fix=fix)
    if fix:
        left = doctor(where)
        mended = [fault for fault in found if fault not in left]
        if not as_json:
            for fault in mended:
                echo(f"done       {fault.place}: {fault.what}: {fault.fix}")
        found = left
    print_faults(found, as_json, f"{where.path}: nothing wrong", fixes=True)
