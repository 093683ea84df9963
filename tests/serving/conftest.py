"""One server over adapters of every task for all tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from adapterkit import Base, Registry
from tests.helpers.server import Running, stock


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory, base_for: Callable[[str, str], Base]) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("served") / "registry.json")
    stock(registry, base_for)
    return registry


@pytest.fixture(scope="session")
def server(stocked: Registry) -> Iterator[Running]:
    with Running(stocked) as running:
        yield running
