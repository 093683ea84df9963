"""adapt gc: delete removed versions and leftover files."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import common_options, echo, print_json, registry_option, size
from adapterkit.store.registry import Registry


@click.command(short_help="Delete removed versions and leftover files.")
@click.option("--dry-run", is_flag=True, help="List the files without deleting them.")
@click.option(
    "--grace",
    "minutes",
    type=click.FloatRange(min=0),
    metavar="MINUTES",
    help="Keep files younger than this. [default: 0; 60 where file locks have no effect]",
)
@registry_option()
@common_options
def command(dry_run: bool, minutes: float | None, registry: Path | None, as_json: bool) -> None:
    """Delete the files of removed versions and of interrupted writes. Registered versions stay.

    \b
    adapt gc --dry-run
    adapt gc
    """
    from adapterkit.store.maintenance import collect

    opened = Registry.at(registry)
    gone = collect(opened, dry_run=dry_run, grace_minutes=minutes)
    if as_json:
        print_json([{"path": str(g.path), "why": g.why, "bytes": g.nbytes} for g in gone])
        return
    for g in gone:
        echo(f"{'would go' if dry_run else 'deleted':<11}{g.path}: {g.why}, {size(g.nbytes)}")
    echo(f"{opened.path}: {len(gone)} {'would go' if dry_run else 'deleted'}, {size(sum(g.nbytes for g in gone))}")
