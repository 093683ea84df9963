"""Bundles: named lists of adapters, in the key `bundles` of registry.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import RegistryError, unknown
from .registry import Registry, check_name
from .schema import BUNDLES

MOST = 400
"""The most adapters of a bundle."""


def bundles(registry: Registry) -> Mapping[str, Sequence[str]]:
    """Return the adapters of each bundle: NAME, NAME@TAG or NAME@VERSION. Raises `RegistryError`."""
    value = registry.index().other("bundles") or {}
    lists = isinstance(value, dict) and all(isinstance(x, list) for x in value.values())
    if not lists or not all(isinstance(name, str) for names in value.values() for name in names):
        raise RegistryError(f"'{registry.path}': bundles must be lists of adapters by name")
    return dict(value)


def put_bundle(registry: Registry, name: str, adapters: Sequence[str]) -> None:
    """Set the adapters of a bundle; without any, it is deleted.

    Raises `RegistryError` where an adapter isn't registered, the name is an adapter's, or there is no such bundle.
    """
    check_name(name)
    if len(adapters) > MOST:
        raise RegistryError(f"a bundle has at most {MOST} adapters, got {len(adapters)}")
    for adapter in adapters:
        registry.resolve(adapter)
    with registry.changing() as index:
        if name in index:
            raise RegistryError(f"{registry.place}: '{name}' is an adapter; a bundle needs another name")
        current = dict(bundles(registry))
        if not adapters and name not in current:
            raise RegistryError(f"{registry.path}: " + unknown("bundle", name, current, known_as="there are"))
        current = {**current, name: list(dict.fromkeys(adapters))}
        index.put_other("bundles", {key: value for key, value in sorted(current.items()) if value}, BUNDLES)
