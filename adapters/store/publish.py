"""Publish an adapter: its files, model card and run.yaml in the store, and its entry in registry.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..adapter.manifest import MANIFEST, TENSORS, parse_manifest
from ..adapter.model_card import CARD, card
from ..adapter.stored import StoredAdapter
from .registry import Registry
from .version_files import entry_of

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter


class Published(NamedTuple):
    """A version in a registry."""

    version: str
    nbytes: int  # of its tensors


def publish(
    registry: Registry,
    name: str,
    adapter: Adapter,
    *,
    beside: Mapping[str, bytes] | None = None,
    stage: str | None = None,
    **details: Any,
) -> Published:
    """Store an adapter as the current version of `name`, or as `name@stage` beside the current one.

    `beside` are further files by name, such as the run.yaml that trains it again; `details` are added to its entry in
    registry.json. Raises `RegistryError` where it can't be written, `AdapterError` where it couldn't be read again.
    """
    return publish_files(registry, name, {**adapter.files(), **(beside or {})}, stage=stage, **details)


def publish_files(
    registry: Registry,
    name: str,
    files: Mapping[str, bytes],
    *,
    with_card: bool = True,
    stage: str | None = None,
    **details: Any,
) -> Published:
    """Store the files of an adapter as the current version of `name`, with a new model card if `with_card`.

    With `stage`, a tag, the version is `name@stage`, and the current one stays. Raises `RegistryError`, `ValueError`
    where the manifest among them isn't valid, and `TaskError` or `OptionError` where its task isn't installed or
    doesn't take the options.
    """
    manifest = parse_manifest(files[MANIFEST])
    nbytes = manifest["files"][TENSORS]["bytes"]
    entry = {**entry_of(manifest, nbytes), "best": StoredAdapter(manifest).task.best, **details}
    if with_card:
        files = {**files, CARD: card(name, files[MANIFEST])}
    return Published(registry.add(name, files, entry, stage), nbytes)
