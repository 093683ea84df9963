"""adapt diff: how two adapters differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import (
    adapter_names,
    common_options,
    counted,
    echo,
    print_json,
    print_table,
    registry_option,
    size,
)
from adapterkit.store.registry import Registry

if TYPE_CHECKING:
    from adapterkit.adapter.diff import Comparison

MOST_TENSORS = 6
MOST_CHARACTERS = 60
"""What fits on one screen; --verbose prints everything."""


@click.command(short_help="Compare two adapters.")
@click.argument("first", metavar="A", shell_complete=adapter_names)
@click.argument("second", metavar="[B]", required=False, shell_complete=adapter_names)
@registry_option()
@click.option("--verbose", "-v", is_flag=True, help="Print every value and tensor that differs.")
@common_options
def command(first: str, second: str | None, registry: Path | None, verbose: bool, as_json: bool) -> None:
    """Compare the adapters A and B: strategy, task, data, metrics, patches, and which tensors differ by how much.

    Each is NAME, NAME@VERSION or NAME@TAG; a NAME alone compares its previous version with its current one. A tensor's
    relative difference is the norm of B - A over that of A.

    \b
    adapt diff reviews-lora
    adapt diff reviews-lora reviews-full
    adapt diff reviews-lora@1a2b3c reviews-lora --verbose
    """
    registered = Registry.at(registry)
    references = (first, second) if second else (f"{first}@{registered.previous(first)}", first)
    names = ["@".join(registered.resolve(reference)) for reference in references]

    from adapterkit.adapter.diff import compare

    comparison = compare(registered.load(names[0]), registered.load(names[1]))
    if as_json:
        print_json({"adapters": names, **comparison.plain()})
        return
    values = comparison.manifest if verbose else comparison.summary()
    rows = [[path, *(_cell(value, verbose) for value in pair)] for path, pair in values.items()]
    rows.append(["patches", *map(_patches, comparison.patches)])
    rows.append(["size of tensors", *map(size, comparison.nbytes)])
    print_table(["", *names], rows)
    _print_tensors(comparison, verbose)


def _print_tensors(comparison: Comparison, verbose: bool) -> None:
    differ, compared = comparison.tensors, len(comparison.tensor_names)
    echo(f"{len(differ)} of {compared} tensors differ, {compared - len(differ)} are equal")
    one_sided = [] if verbose else comparison.one_sided()
    for label, names in zip(("first", "second"), one_sided, strict=False):
        if names:
            echo(
                f"{counted(len(names), 'tensor')} only in the {label}: {', '.join(names[:2])}{', …' * (len(names) > 2)}"
            )
    hidden = {name for names in one_sided for name in names}
    differ = {name: amount for name, amount in differ.items() if name not in hidden}
    shown = list(differ) if verbose else [name for name in comparison.largest() if name in differ][:MOST_TENSORS]
    if shown:
        print_table(["tensor", "max abs", "relative"], [[name, *_amount(differ[name])] for name in shown])
    if left := len(differ) - len(shown):
        echo(f"and {counted(left, 'more tensor')}; --verbose lists all")


def _cell(value: Any, verbose: bool) -> str:
    if value is None:
        return "-"
    if verbose or isinstance(value, bool):
        return str(value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 3] + "..."


def _patches(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} on {counted(count, 'module')}" for kind, count in kinds.items()) or "none"


def _amount(amount: Mapping[str, Any]) -> list[str]:
    if "shapes" in amount:
        shapes = ["-" if shape is None else "x".join(map(str, shape)) or "scalar" for shape in amount["shapes"]]
        return [f"{shapes[0]} | {shapes[1]}", "-"]
    relative = amount["relative"]
    return [f"{amount['max_abs']:.3g}", "-" if relative is None else f"{relative:.3g}"]
