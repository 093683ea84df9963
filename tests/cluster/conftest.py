"""One cluster for the tests of a file; each finds two nodes, also where one before it killed some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.ray_cluster import Cluster, cluster_started


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    with cluster_started() as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    import ray

    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    started.fill()
    yield started
    ray.shutdown()
