"""adapt show: what an adapter is, without loading a base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import (
    adapter_argument,
    best_text,
    common_options,
    echo,
    encoding_text,
    metric_text,
    print_json,
    registry_option,
    size,
)
from adapterkit.errors import AdapterError, printable
from adapterkit.store.registry import Registry

if TYPE_CHECKING:
    from adapterkit.adapter.adapter import Adapter


@click.command(short_help="Show what an adapter is.")
@adapter_argument()
@registry_option()
@common_options
def command(name: str, registry: Path | None, as_json: bool) -> None:
    """Show what an adapter is, what it was trained on, and how good it is; NAME@VERSION and NAME@TAG do, too."""
    where = Registry.at(registry)
    name, version = where.resolve(name)
    adapter = where.load(f"{name}@{version}")
    entry = where.adapters()[name]
    if as_json:
        print_json({"name": name, "version": version, **entry, **adapter.manifest})
        return
    try:
        lines = _lines(name, version, entry, adapter, where.folder(name, version))
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # of parts that no reader of adapters needs
        raise AdapterError(
            f"'{name}': its manifest doesn't tell all of it ({error!r}); --json shows what there is"
        ) from error
    for topic, text in lines.items():
        echo(printable(f"{topic:<11}{text}"))
    if len(entry["versions"]) > 1 or entry.get("tags"):
        for place, text in enumerate(_history(entry)):
            echo(f"{'' if place else 'versions':<11}{printable(text)}")


def _lines(name: str, version: str, entry: dict[str, Any], adapter: Adapter, folder: Path) -> dict[str, str]:
    """Return for reading, by topic, what the manifest and the registry's entry tell."""
    m = adapter.manifest
    kinds: dict[str, int] = {}
    for patch in m["patches"].values():
        kinds[patch["kind"]] = kinds.get(patch["kind"], 0) + 1
    strategy = m["strategy"]
    options = ", ".join(f"{key}={value}" for key, value in strategy["options"].items() if value not in (None, []))
    place = 1 + list(entry["versions"]).index(version)
    lines = {
        "adapter": f"{name}@{version} (version {place} of {len(entry['versions'])})",
        "task": f"{m['task']['name']}: {adapter.task.describe_columns()}; {adapter.task.summary()}",
        "base": f"{m['base']['name']} ({m['base']['model_type']}, {m['base']['fingerprint'][:12]})",
        "strategy": f"{strategy['name']} of {strategy['distribution']} {strategy['version']}: {options}",
        **({"tokens": f"{', '.join(m['added_tokens'])} added"} if "added_tokens" in m else {}),
        "learned": f"{m['parameters']:,} parameters; "
        + ", ".join([*(f"{count} modules {kind}" for kind, count in kinds.items()), f"{len(m['head'])} head tensors"]),
        "data": "; ".join(f"{split} {s['rows']:,} rows of {s['file']}" for split, s in m["data"]["splits"].items()),
        **{split: metric_text(metrics) for split, metrics in m["metrics"].items()},
        "files": ", ".join(f"{file} {size(f['bytes'])}" for file, f in m["files"].items()),
        **({"hub": f"{hub['repo']} at {hub['revision']}"} if (hub := entry["versions"][version].get("hub")) else {}),
        "folder": str(folder),
    }
    if encoding := m.get("encoding"):
        lines["encoded"] = encoding_text(encoding)
    if probe := m.get("probe"):
        layers = ", ".join(map(str, probe["layers"]))
        of = "layer" if len(probe["layers"]) == 1 else "layers"
        lines["learned"] += f" of a probe: {probe['pooling'] or 'each token'} of {of} {layers}"
    return lines


def _history(entry: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each version, the first one first: its metric, its tags, and which is current."""
    for version, own in entry["versions"].items():
        names = [tag for tag, of in entry.get("tags", {}).items() if of == version]
        names += ["current"] if version == entry["current"] else []
        yield f"{version}  {own['strategy']}, {best_text(own)}" + (f"  [{', '.join(names)}]" if names else "")
