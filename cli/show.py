"""adapt show: one adapter, read without loading its base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from adapterkit.adapter.stored import StoredAdapter
from adapterkit.cli.common import (
    adapter_argument,
    best_text,
    common_options,
    counted,
    echo,
    print_encoding,
    print_json,
    print_table,
    print_topics,
    registry_option,
    size,
)
from adapterkit.display import metric_table
from adapterkit.errors import AdapterError
from adapterkit.store.registry import Registry
from adapterkit.workflows.remarks import stored_remarks


@click.command(short_help="Show an adapter: task, data, metrics, files.")
@adapter_argument()
@registry_option()
@common_options
def command(name: str, registry: Path | None, as_json: bool) -> None:
    """Show the adapter NAME, NAME@VERSION or NAME@TAG: its task, base, training data, metrics, files and versions.

    \b
    adapt show reviews-lora
    adapt show reviews-lora@best --json
    """
    opened = Registry.at(registry)
    name, version = opened.resolve(name)
    adapter = StoredAdapter.load(opened.fetched(name, version), version=version)
    entry = opened.adapters()[name]
    folder = opened.folder(name, version)
    remarks = stored_remarks(folder)
    if as_json:
        shown = {"remarks": remarks} if remarks else {}
        print_json({"name": name, "version": version, **entry, **adapter.manifest, **shown})
        return
    try:
        topics = list(_topics(name, version, entry, adapter, folder, remarks))
        metrics = metric_table(adapter.manifest["metrics"], _best(entry["versions"][version], adapter))
        versions = [_version_row(each, entry) for each in entry["versions"]]
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # of parts that no reader of adapters needs
        raise AdapterError(f"the manifest of '{name}' is incomplete ({error!r}); --json prints all of it") from error
    print_topics(topics)
    if encoding := adapter.manifest.get("encoding"):
        echo()
        print_encoding(encoding, _best(entry["versions"][version], adapter))
    elif metrics[1]:
        echo()
        print_table(*metrics)
    if len(versions) > 1 or entry.get("tags"):
        echo()
        print_table(["versions", "strategy", "measured", ""], versions)


def _best(entry: dict[str, Any], adapter: StoredAdapter) -> str:
    """Return the metric that chose the epoch."""
    return str(entry.get("best") or adapter.task.best)


def _topics(
    name: str, version: str, entry: dict[str, Any], adapter: StoredAdapter, folder: Path, remarks: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield topics and texts from a manifest and an entry of the registry."""
    m, base, strategy = adapter.manifest, adapter.manifest["base"], adapter.manifest["strategy"]
    number = 1 + list(entry["versions"]).index(version)
    yield "adapter", f"{name}@{version} (version {number} of {len(entry['versions'])})"
    yield "task", f"{m['task']['name']}: {adapter.task.describe_columns()}; {adapter.task.summary()}"
    yield "base", f"{base['name']} ({base['model_type']}, {base['fingerprint'][:12]})"
    yield "strategy", f"{strategy['name']} of {strategy['distribution']} {strategy['version']}"
    if options := [f"{key}={_value(value)}" for key, value in strategy["options"].items() if value not in (None, [])]:
        yield "options", ", ".join(options)
    if "added_tokens" in m:
        yield "tokens", f"{', '.join(m['added_tokens'])} added"
    yield "learned", _learned(m)
    if m["data"]["splits"]:
        yield (
            "data",
            "; ".join(f"{split} {s['rows']:,} rows of {s['file']}" for split, s in m["data"]["splits"].items()),
        )
    yield from (("remark", remark) for remark in remarks)
    yield "files", ", ".join(f"{file} {size(f['bytes'])}" for file, f in m["files"].items())
    if hub := entry["versions"][version].get("hub"):
        yield "hub", f"{hub['repo']} at {hub['revision']}"
    yield "folder", str(folder)


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _learned(manifest: dict[str, Any]) -> str:
    """Return the number of parameters and the kinds of patches."""
    kinds = Counter(patch["kind"] for patch in manifest["patches"].values())
    parts = [f"{kind} on {counted(count, 'module')}" for kind, count in kinds.items()]
    text = f"{manifest['parameters']:,} parameters: " + ", ".join(
        [*parts, counted(len(manifest["head"]), "head tensor")]
    )
    if probe := manifest.get("probe"):
        layers = ", ".join(map(str, probe["layers"]))
        noun = "layer" if len(probe["layers"]) == 1 else "layers"
        text += f" of a linear probe on {probe['pooling'] or 'each token'} of {noun} {layers}"
    return text


def _version_row(version: str, entry: dict[str, Any]) -> list[str]:
    """Return a version with its strategy, its metric, and its tags."""
    names = [tag for tag, tagged in entry.get("tags", {}).items() if tagged == version]
    names += ["current"] if version == entry["current"] else []
    stored = entry["versions"][version]
    return [version, stored["strategy"], best_text(stored), ", ".join(names)]
