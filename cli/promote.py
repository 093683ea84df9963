"""adapt promote: make a candidate the current version where a paired test allows."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import adapter_argument, common_options, echo, print_json, registry_option
from adapterkit.serving.canary import promote
from adapterkit.store.registry import Registry


@click.command(short_help="Make the version of a canary the current one.")
@adapter_argument()
@click.argument("version", required=False)
@click.option(
    "--report",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Report of the server's canary. [default: canary.json beside the registry]",
)
@click.option("--force", is_flag=True, help="Promote without a significant difference.")
@registry_option()
@common_options
def command(
    name: str, version: str | None, report: Path | None, force: bool, registry: Path | None, as_json: bool
) -> None:
    """Make the candidate of `adapt serve --canary` the current version of NAME.

    The candidate must be significantly better on the rows whose labels came back through POST /v1/feedback (McNemar's
    exact test, p < 0.05). A running server answers with it from the next request on.

    \b
    adapt promote reviews-lora
    adapt promote reviews-lora best --force
    """
    before, after = promote(Registry.at(registry), name, version, report, force=force)
    if as_json:
        print_json({"name": name, "version": after, "previous": before})
    else:
        echo(f"{name} is {name}@{after}; before: {name}@{before}")
