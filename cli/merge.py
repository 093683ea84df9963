"""adapt merge: an adapter and its base as one plain model, or several adapters as one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from adapterkit.cli.common import (
    adapter_names,
    base_options,
    common_options,
    echo,
    moved,
    print_json,
    registry_option,
    size,
)
from adapterkit.errors import AdapterError
from adapterkit.store.registry import Registry, check_name


@click.command(short_help="Make one model of an adapter and its base, or one adapter of several.")
@click.argument("adapters", nargs=-1, required=True, metavar="NAME[:WEIGHT]...", shell_complete=adapter_names)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Write a plain transformers model here.")
@click.option("--name", metavar="NAME", help="Register the weighted sum of the adapters by this name.")
@click.option(
    "--combination-type",
    type=click.Choice(["cat", "linear", "svd"]),
    help="How updates are added, as PEFT names it; default: cat, the exact sum.",
)
@click.option("--rank", type=int, help="Rank of the sum with svd; default: the largest among the adapters.")
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
    """Fold the adapter NAME into its base and write a plain transformers model, which needs no adapterkit.

    Several LoRA adapters of one base and task are added up first, each times its weight (1 unless given), as in
    `adapt merge formal:0.7 polite:0.3 --name both`. Their heads are averaged by the same weights.
    """
    given = [_weighted(text) for text in adapters]
    if out is None and name is None:
        raise AdapterError("nowhere to put it: give --out DIR for a model, --name NAME for an adapter, or both")
    where = Registry.at(registry)
    resolved = [where.resolve(reference) for reference, _ in given]
    if name is not None:
        check_name(name)
        where.prepare()

    from adapterkit.base.base import Base
    from adapterkit.convert.combine import combine
    from adapterkit.convert.merge import check_folder, merge
    from adapterkit.store.publish import publish

    if out is not None:
        check_folder(out)
    references = [f"{known}@{version}" for known, version in resolved]
    loaded = [where.load(reference) for reference in references]
    stored = loaded[0].manifest["base"]
    base = Base.from_manifest(stored, where.locate(stored["name"]) if base_name is None else base_name)
    loaded = [moved(*one, base, allow_base_mismatch) for one in zip(references, loaded, strict=True)]
    adapter = loaded[0]
    if len(given) > 1 or any(value is not None for value in (name, combination_type, rank, given[0][1])):
        weights = [1.0 if weight is None else weight for _, weight in given]
        parts = list(zip(loaded, weights, strict=True))
        adapter = combine(base, parts, combination_type or "cat", rank=rank, names=references)
    report: dict[str, Any] = {"merged_from": references, "task": adapter.task.name}
    if mismatches := [a.manifest["base"]["mismatch"] for a in loaded if a.mismatch]:
        report["base_mismatch"] = mismatches
    if out is not None:
        merge(base, adapter, out)
        report |= {"out": str(out), "auto_class": adapter.task.auto_class}
    if name is not None:
        version = publish(where, name, adapter).version
        report |= {"name": name, "version": version, "folder": str(where.folder(name, version))}
    if as_json:
        print_json(report)
        return
    if out is not None:
        load = f'transformers.{report["auto_class"]}.from_pretrained("{out}")'
        echo(f"written    {out}: {size(sum(f.stat().st_size for f in out.iterdir()))}; load it with {load}")
    if name is not None:
        echo(f'saved      {report["folder"]}; try adapt predict {name} "…"')


def _weighted(text: str) -> tuple[str, float | None]:
    """Return the adapter and the weight that `name:0.7` or `name` names."""
    reference, colon, weight = text.partition(":")
    try:
        number = float(weight) if colon else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise AdapterError(f"'{text}': '{weight}' is not a number; NAME:WEIGHT was expected, as in {reference}:0.7")
    return reference, number
