"""adapt compress: an adapter in fewer bytes."""

from __future__ import annotations

from pathlib import Path

import click

from adapterkit.cli.common import (
    TerminalWatch,
    adapter_argument,
    common_options,
    echo,
    print_encoding,
    print_json,
    registry_option,
    size,
)
from adapterkit.store.registry import Registry


@click.command(short_help="Save an adapter in fewer bytes.")
@adapter_argument()
@click.option("--as", "encoding", metavar="ENCODING", required=True, help="exact, bf16, 1bit, or rank:R as in rank:8.")
@click.option("--to", metavar="NAME", help="Register it under this name. [default: a new version of NAME]")
@click.option("--train-file", metavar="FILE", help="Rows to fit the scales of 1bit on. [default: those of the run]")
@click.option("--test-file", metavar="FILE", help="Rows to evaluate on. [default: those of the run]")
@click.option(
    "--base", "base_name", metavar="NAME", help="Where the base is now. [default: where it was at training time]"
)
@registry_option()
@common_options
def command(
    name: str,
    encoding: str,
    to: str | None,
    train_file: str | None,
    test_file: str | None,
    base_name: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """Save the adapter NAME or NAME@VERSION in a smaller encoding, evaluate it before and after, and register it.

    exact is lossless, bf16 halves any adapter, 1bit stores the signs of the differences to the base (for full and
    layerwise fine-tuning), rank:R approximates these differences by a low-rank update.

    \b
    adapt compress reviews-full --as exact
    adapt compress reviews-full --as rank:8 --to reviews-small
    """
    from adapterkit.workflows.compress import compress_adapter

    compressed = compress_adapter(
        Registry.at(registry),
        name,
        encoding,
        to=to,
        train_file=train_file,
        test_file=test_file,
        base=base_name,
        watch=TerminalWatch(),
    )
    if as_json:
        print_json(compressed.plain())
        return
    print_encoding(compressed.encoding, compressed.best)
    share = compressed.nbytes / compressed.base_bytes
    echo(f"saved      {compressed.folder}: {size(compressed.nbytes)}, {share:.2%} of the base")
