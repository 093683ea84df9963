"""A Ray cluster of several raylets on loopback, of which one can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sysconfig
import time
import uuid
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from adapterkit.cluster import Executor, Placement, open_executor

STORE = 80 << 20
_MARK = "ADAPTERKIT_TEST_CLUSTER"
"""The environment variable by which the processes of a cluster are known."""


class Cluster:
    """A head without CPUs and two raylets with one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        self._nodes = Nodes(initialize_head=False, shutdown_at_exit=False)
        self._nodes.add_node(**head)
        self.nodes: list[Any] = []
        self.fill()

    @property
    def address(self) -> str:
        """Where its head answers."""
        return str(self._nodes.address)

    def fill(self) -> None:
        """Start a raylet for each that was killed."""
        while len(self.nodes) < 2:
            self.nodes.append(self._nodes.add_node(num_cpus=1, object_store_memory=STORE))

    def kill(self, node_id: str) -> None:
        """End the raylet of a node and its processes by SIGKILL."""
        (node,) = [node for node in self.nodes if node.node_id == node_id]
        self.nodes.remove(node)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in (raylet, *raylet.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def busy(self) -> list[str]:
        """Return the ids of the nodes whose workers do a task."""
        return [
            node.node_id
            for node in self.nodes
            for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children()
            if "ray::_Actor.do" in " ".join(process.cmdline())
        ]

    @contextlib.contextmanager
    def bare_node(self, folder: Path) -> Iterator[None]:
        """Start a node of 4 CPUs whose Python has all that this one has, but not adapterkit."""
        venv.create(folder, with_pip=False)
        (packages,) = folder.glob("lib/python*/site-packages")
        for source in Path(sysconfig.get_path("purelib")).iterdir():
            if "adapterkit" not in source.name:
                (packages / source.name).symlink_to(source)
        command = [folder / "bin/python", "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", 4]
        command += ["--address", self.address, "--object-store-memory", STORE, "--disable-usage-stats"]
        node = psutil.Popen(list(map(str, command)), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            for process in (*node.children(recursive=True), node):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            node.wait(30)

    @contextlib.contextmanager
    def executor(self, **options: Any) -> Iterator[Executor]:
        """Open an executor on the cluster."""
        with open_executor(Placement(on="ray", ray_address=self.address, **options)) as executor:
            yield executor

    def stop(self) -> None:
        """End all processes of the cluster."""
        self._nodes.shutdown()


@contextlib.contextmanager
def cluster_started() -> Iterator[Cluster]:
    """Start a cluster and stop it; a process that is left fails."""
    import ray

    cluster, mark = None, str(uuid.uuid4())
    try:
        with mock.patch.dict(os.environ, {_MARK: mark}):
            cluster = Cluster()
            yield cluster
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.stop()
        until = time.monotonic() + 30
        while (left := _of_ray(mark)) and time.monotonic() < until:
            time.sleep(0.2)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert [process.info for process in left] == []


def _of_ray(mark: str) -> list[psutil.Process]:
    """Return the processes of Ray that inherited the mark of a cluster: others may have one of their own."""
    names = ("ray::", "/site-packages/ray/")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if any(name in str(process.info) for name in names) and process.environ().get(_MARK) == mark:
                found.append(process)
    return found
