"""adapt merge: an adapter and its base as one plain model, or several adapters as one."""

from __future__ import annotations

import math
from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_names,
    base_options,
    common_options,
    echo,
    predict_command,
    print_json,
    registry_option,
    size,
)
from adapterkit.errors import AdapterError
from adapterkit.store.registry import Registry


@click.command(short_help="Merge an adapter into its base, or several adapters into one.")
@click.argument("adapters", nargs=-1, required=True, metavar="NAME[:WEIGHT]...", shell_complete=adapter_names)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Write a plain transformers model here.")
@click.option("--name", metavar="NAME", help="Register the weighted sum of the adapters under this name.")
@click.option(
    "--combination-type",
    type=click.Choice(["cat", "linear", "svd"]),
    help="How updates are combined, in PEFT's terms. [default: cat, the exact sum]",
)
@click.option("--rank", type=int, help="Rank of the sum with svd. [default: the largest of the adapters]")
@base_options()
@registry_option()
@common_options
def command(
    adapters: tuple[str, ...],
    out: Path | None,
    name: str | None,
    combination_type: str | None,
    rank: int | None,
    base_name: str | None,
    allow_base_mismatch: bool,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Merge the adapter NAME into its base and write a plain transformers model, which needs no adapterkit.

    Several LoRA adapters of one base and task are summed first, each multiplied by its WEIGHT (default 1). Their heads
    are averaged with the same weights.

    \b
    adapt merge reviews-lora --out reviews-model
    adapt merge formal:0.7 polite:0.3 --name both
    """
    weighted = [_weighted(text) for text in adapters]

    from adapterkit.workflows.merge import merge_adapters

    merged = merge_adapters(
        Registry.at(registry),
        weighted,
        out=out,
        name=name,
        combination_type=combination_type,
        rank=rank,
        base=base_name,
        allow_base_mismatch=allow_base_mismatch,
        watch=TerminalWatch(),
    )
    if as_json:
        print_json(merged.plain())
        return
    if merged.out is not None:
        load = f'transformers.{merged.auto_class}.from_pretrained("{merged.out}")'
        echo(f"written    {merged.out}: {size(merged.nbytes)}; load it with {load}")
    if merged.name is not None:
        echo(f"saved      {merged.folder}")
        echo(f"try        {predict_command(merged.name)}")


def _weighted(text: str) -> tuple[str, float | None]:
    """Return the adapter and the weight in `name:0.7` or `name`."""
    reference, colon, weight = text.partition(":")
    try:
        number = float(weight) if colon else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise AdapterError(f"'{text}': weight '{weight}' is not a number; expected NAME:WEIGHT, as in {reference}:0.7")
    return reference, number
