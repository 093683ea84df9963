"""adapt diff: how two adapters differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import adapter_names, common_options, echo, print_json, print_table, registry_option, size
from adapterkit.store.registry import Registry


@click.command(short_help="Say how two adapters differ.")
@click.argument("first", metavar="A", shell_complete=adapter_names)
@click.argument("second", metavar="B", shell_complete=adapter_names)
@registry_option()
@common_options
def command(first: str, second: str, registry: Path | None, as_json: bool) -> None:
    """Say how the adapters A and B differ: options, data, metrics, and which tensors by how much.

    Each is NAME, NAME@VERSION or NAME@TAG. A tensor's relative difference is the norm of B - A over that of A.
    """
    where = Registry.at(registry)
    names = ["@".join(where.resolve(reference)) for reference in (first, second)]

    from adapterkit.adapter.diff import differences

    found = differences(where.load(names[0]), where.load(names[1]))
    if as_json:
        print_json({"adapters": names, **found})
        return
    shown = {place: pair for place, pair in found["manifest"].items() if ".intervals." not in place}
    rows = [[place, *("-" if value is None else value for value in pair)] for place, pair in shown.items()]
    rows.append(["size of tensors", *(size(count) for count in found["bytes"])])
    print_table(["", *names], rows)
    tensors = found["tensors"]
    echo(f"{len(tensors)} of {found['tensors_compared']} tensors differ")
    if tensors:
        print_table(["tensor", "max abs", "relative"], [[name, *_amount(found)] for name, found in tensors.items()])


def _amount(found: dict[str, Any]) -> list[str]:
    if "shapes" in found:
        shapes = ["-" if shape is None else "x".join(map(str, shape)) or "scalar" for shape in found["shapes"]]
        return [f"{shapes[0]} | {shapes[1]}", "-"]
    relative = found["relative"]
    return [f"{found['max_abs']:.3g}", "-" if relative is None else f"{relative:.3g}"]
