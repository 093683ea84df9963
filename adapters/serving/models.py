"""The adapters of a registry as models of a server: names are resolved at each request, a pool for each base."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..base.base import Base
from ..errors import BaseModelError, RegistryError, unknown
from ..execution.precision import bf16_support
from ..pool import Pool
from ..pool.linear_kernels import FLOAT16_WEIGHTS, unsupported
from ..store.bundles import bundles
from ..store.registry import Registry
from .errors import RequestError
from .target import Target


def fastest_dtype(base: Base, device: str | None) -> tuple[str, str]:
    """Return the dtype of a pool for a base in float32 that answers fastest and as well, and the reason.

    It is bfloat16 on hardware that computes in it, else float16-weights; for a base in another dtype, that.
    """
    name, on = str(base.model.dtype).removeprefix("torch."), device or base.model.device.type
    supported, hardware = bf16_support(on.partition(":")[0])
    if name != "float32":
        return name, "the base's"
    if supported:
        return "bfloat16", f"{hardware} computes in it; --dtype float32 is exact"
    why = f"{hardware} doesn't compute in bfloat16"
    if unsupported(FLOAT16_WEIGHTS, torch.device(on), base.model.dtype) is not None:
        return name, why
    return FLOAT16_WEIGHTS, f"{why}, and short passes read weights in float16; --dtype float32 is exact"


class Models:
    """The registered adapters, and a pool for each base that they were trained on.

    Changes of the registry take effect at the next `resolve`; requests before it stay with their version.
    """

    def __init__(self, registry: Registry, base: str | None = None, **options: Any) -> None:
        """Serve `registry`; with `base`, the adapters of that base alone. `options` are those of `Pool`."""
        self.registry, self._options = registry, options
        self._pools: dict[str, Pool] = {}
        self._lock = threading.Lock()
        self._only: str | None = None
        self.precisions: list[str] = []
        """The dtype of each base that was chosen here, in words, with the reason."""
        if base is not None:
            pool = self._opened(Base.load(base))
            self._only = pool.base.fingerprint
            self._pools[self._only] = pool

    def load(self) -> None:
        """Load the base of every registered adapter's current version, so that the first request doesn't."""
        index = self.registry.index()
        for name in index:
            entry = index.cached(name)
            base = entry["versions"][entry["current"]]["base"]
            if self._only is None:
                self._pool(base)

    def names(self) -> list[str]:
        """Return the names of the registered adapters. Raises `RegistryError` where registry.json is damaged."""
        return sorted(self.registry.index())

    def bundles(self) -> Mapping[str, Sequence[str]]:
        """Return the adapters of each bundle."""
        return bundles(self.registry)

    def members(self, name: str) -> Sequence[str]:
        """Return the adapters of a bundle, or the name itself where it is no bundle's."""
        return [name] if name.partition("@")[0] in self.registry.index() else self.bundles().get(name, [name])

    def bases(self) -> dict[str, Pool]:
        """Return the pools by the name of their base."""
        return {pool.base.name: pool for pool in tuple(self._pools.values())}

    def pools(self) -> list[Pool]:
        """Return the pools that are open."""
        return list(self._pools.values())

    def entry(self, name: str) -> Mapping[str, Any]:
        """Return what registry.json has about the current version of an adapter."""
        adapter = self.registry.index().cached(name)
        entry: Mapping[str, Any] = adapter["versions"][adapter["current"]]
        return entry

    def generation(self) -> int:
        """Return a number that grows with each change of the registry: its time in nanoseconds, 0 without a file."""
        try:
            return os.stat(self.registry.path).st_mtime_ns
        except OSError:
            return 0

    def resolve(self, name: str) -> Target:
        """Return the version that `name`, `name@tag` or `name@version` names now.

        Raises `RequestError`, 404 with the nearest name, or 409 for an adapter of another base than the server's.
        """
        index = self.registry.index()
        stem = name.partition("@")[0]
        if stem not in index:
            raise RequestError(404, unknown("adapter", stem[:200], index, known_as="registered"))
        try:
            resolved, version = self.registry.resolve(name)
            base = index.cached(resolved)["versions"][version]["base"]
        except (RegistryError, KeyError) as error:
            raise RequestError(404, str(error)) from error
        return Target(resolved, f"{resolved}@{version}", self._pool(base))

    def _pool(self, base: Mapping[str, Any]) -> Pool:
        """Return the pool of a base that an adapter names, opened on its first use."""
        fingerprint = base["fingerprint"]
        with self._lock:
            if fingerprint not in self._pools:
                if self._only is not None:
                    served = next(iter(self.bases()))
                    raise RequestError(409, f"the adapter is for base '{base['name']}', and this server has '{served}'")
                try:
                    loaded = Base.load(self.registry.locate(base["name"]))
                except BaseModelError as error:
                    raise RequestError(409, f"the adapter's base '{base['name']}' can't be loaded: {error}") from error
                if loaded.fingerprint != fingerprint:
                    raise RequestError(409, f"base '{base['name']}' has changed since the adapter was trained")
                self._pools[fingerprint] = self._opened(loaded)
            return self._pools[fingerprint]

    def _opened(self, base: Base) -> Pool:
        options = dict(self._options)
        if options.get("dtype") == "auto":
            options["dtype"], why = fastest_dtype(base, options.get("device"))
            self.precisions.append(f"{base.name} in {options['dtype']}: {why}")
        return Pool(base, registry=self.registry, batch_size=128, **options)

    def use_threads(self, count: int) -> None:
        """Let this thread compute with that many threads of torch."""
        torch.set_num_threads(count)

    def close(self) -> None:
        """Close all pools."""
        for pool in self._pools.values():
            pool.close()
