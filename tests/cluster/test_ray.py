"""The same results over several raylets on loopback, and where one of them is killed; `make test-ray` runs these."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapterkit import Registry
from adapterkit.errors import ClusterError, DataError
from adapterkit.watch import Watch
from adapterkit.workflows.run_each import run_each, tasks_in
from tests.helpers.ray_cluster import Cluster

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
Adapt = Callable[..., Any]


@dataclass
class Nodes:
    """Names the node that does a task, a number; a negative one raises."""

    seconds: float

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[int], tuple[int, str]]]:
        import ray

        def where(task: int) -> tuple[int, str]:
            time.sleep(self.seconds)
            if task < 0:
                raise DataError(f"task {task}")
            return task, ray.get_runtime_context().get_node_id()

        yield where


def test_tasks_of_a_killed_node_are_done_by_another(cluster: Cluster) -> None:
    with cluster.executor() as executor:
        results = executor.map(Nodes(0.2), range(30), ahead=4)
        first = [next(results) for _ in range(6)]
        cluster.kill(first[0][1])
        every = [*first, *results]
        assert [task for task, _ in every] == list(range(30))
        assert len({node for _, node in every[-6:]}) == 1
        with pytest.raises(DataError, match="task -1"):
            list(executor.map(Nodes(0), [1, -1]))
    with cluster.executor(cpus_per_worker=3.0) as executor, pytest.raises(ClusterError, match="no node of the cluster"):
        list(executor.map(Nodes(0), [1]))


def test_a_node_without_the_package_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    import ray

    with cluster.bare_node(tmp_path / "env"), cluster.executor(cpus_per_worker=4.0) as executor:
        until = time.monotonic() + 60
        while all(node["Resources"].get("CPU") != 4 for node in ray.nodes()):
            assert time.monotonic() < until
            time.sleep(0.2)
        with pytest.raises(ClusterError) as raised:
            list(executor.map(Nodes(0), [1]))
    assert str(raised.value) == (
        "a node of the cluster lacks a package: ModuleNotFoundError: No module named 'adapterkit'; "
        "install the same environment on every node"
    )


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Return a folder of four data sets."""
    for name, labels in {"a": "xy", "b": "pq", "c": "uvw", "d": "mn"}.items():
        path = tmp_path / "tasks" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        rows = [f"a {labels[i % len(labels)]} thing {i},{labels[i % len(labels)]}" for i in range(24)]
        path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path.parent


class Killer(Watch):
    """Ends a node's raylet when the first task is done."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster: Cluster | None = cluster

    def note(self, topic: str, text: str) -> None:
        if topic.startswith("1/") and self.cluster is not None:
            self.cluster.kill(self.cluster.nodes[0].node_id)
            self.cluster = None


def test_each_is_the_same_over_a_cluster_of_which_a_node_dies(
    cluster: Cluster, tasks: Path, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    values = {"base": str(tiny_folder()), "strategy": "lora", "num_train_epochs": 2}
    here, there = Registry(tmp_path / "here/registry.json"), Registry(tmp_path / "there/registry.json")
    local = run_each(tasks_in(tasks), values, here)
    watch = Killer(cluster)
    with cluster.executor() as executor:
        remote = run_each(tasks_in(tasks), values, there, executor=executor, watch=watch)
    assert watch.cluster is None
    assert [(r.task, r.name, r.version, r.metrics) for r in local] == [
        (r.task, r.name, r.version, r.metrics) for r in remote
    ]
    for result in local:
        mine, theirs = (registry.folder(result.name, result.version) for registry in (here, there))
        for file in ("adapter.json", "adapter_model.safetensors", "run.yaml"):
            assert (mine / file).read_bytes() == (theirs / file).read_bytes()
    assert list(here.adapters()) == list(there.adapters())


def test_predictions_are_the_same_over_a_cluster_of_which_a_node_dies(
    cluster: Cluster,
    tasks: Path,
    tmp_path: Path,
    tiny_folder: Callable[..., Path],
    adapt: Adapt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from adapterkit.cli import predict

    done = adapt("run", "--dataset", tasks / "a.csv", "--base", tiny_folder(), "--epochs", 1, "--name", "a")
    assert done.exit_code == 0, done.output
    for number in range(12):
        lines = "".join(f"text {i} of {number}\n" for i in range(300))
        (tmp_path / f"f{number:02}.txt").write_text(lines)
    files = sorted(tmp_path.glob("f*.txt"))
    assert adapt("predict", "a", *files, "--out", "here").exit_code == 0
    opened, read = [], predict.from_file

    def killing(path: str, *args: Any, **kwargs: Any) -> Any:
        opened.append(path)
        if len(opened) == 9:
            cluster.kill(cluster.nodes[1].node_id)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(predict, "from_file", killing)
    done = adapt("predict", "a", *files, "--out", "there", "--on", "ray", "--ray-address", cluster.address)
    assert done.exit_code == 0, done.output
    assert len(opened) == 12
    names = sorted(file.name for file in (tmp_path / "here").glob("f*"))
    assert len(names) == 12
    for name in names:
        here, there = (
            [json.loads(line) for line in (tmp_path / place / name).read_text().splitlines()]
            for place in ("here", "there")
        )
        # matrix products may depend on where in memory their operands are
        assert [row.pop("score") for row in here] == pytest.approx([row.pop("score") for row in there], abs=1e-6)
        assert here == there
    assert len(list((tmp_path / "there").iterdir())) == 13


@contextlib.contextmanager
def killing(cluster: Cluster, folder: Path, begun: str) -> Iterator[list[str]]:
    """Kill a node that does a task, once a file of the folder shows that some of the work is done; yield its id."""
    killed: list[str] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            if list(folder.rglob(begun)) and (busy := cluster.busy()):
                killed.append(busy[0])
                cluster.kill(busy[0])
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_comparison_and_a_search_are_the_same_over_a_cluster_of_which_a_node_dies(
    cluster: Cluster, tasks: Path, tiny_folder: Callable[..., Path], adapt: Adapt
) -> None:
    flags = ["--base", tiny_folder(), "--epochs", 4]
    on_ray = ["--on", "ray", "--ray-address", cluster.address]

    def compare(place: str, *more: Any) -> list[Any]:
        names = ["--strategies", "lora,head-only,bitfit,layerwise", "--registry", f"{place}/registry.json"]
        done = adapt("compare", "--dataset", tasks / "a.csv", *names, "--out", place, *flags, *more, "--json")
        assert done.exit_code == 0, done.output
        results = json.loads(done.stdout)
        return [(c["name"], c["metrics"], c.get("registered")) for c in results["candidates"]]

    def tune(place: str, *more: Any) -> list[Any]:
        search = ["--trials", 5, "--search", "r=2,4,8"]
        done = adapt("tune", "--dataset", tasks / "b.csv", *search, "--out", place, *flags, *more, "--json")
        assert done.exit_code == 0, done.output
        return [(t["number"], t["values"], t["score"], t["state"]) for t in json.loads(done.stdout)["trials"]]

    compared, tuned = compare("here"), tune("here")
    there = Path("there")
    with killing(cluster, there, "adapter_model.safetensors") as killed:
        assert compare("there", *on_ray) == compared
    assert len(killed) == 1
    cluster.fill()
    with killing(cluster, there, "trials.csv") as killed:
        assert tune("there", *on_ray) == tuned
    assert len(killed) == 1


def test_a_signal_ends_a_command_on_a_ray_of_its_own_which_leaves_nothing(
    tasks: Path, tmp_path: Path, tiny_folder: Callable[..., Path], adapt: Adapt
) -> None:
    done = adapt("run", "--dataset", tasks / "a.csv", "--base", tiny_folder(), "--epochs", 1, "--name", "a")
    assert done.exit_code == 0, done.output
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"text {i}\n" for i in range(200_000)))
    command = [
        sys.executable,
        "-m",
        "adapterkit.cli",
        "predict",
        "a",
        rows,
        "--on",
        "ray",
        "--out",
        tmp_path / "o.jsonl",
    ]
    home = {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = psutil.Popen(list(map(str, command)), env=os.environ | home, stdout=-1, stderr=-1, text=True)
    until = time.monotonic() + 120
    while not any("ray::_Actor" in " ".join(child.cmdline()) for child in process.children(recursive=True)):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    children = process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "Error: interrupted")
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert not (tmp_path / "o.jsonl").exists()
    assert not (tmp_path / ".ray" / "auth_token").exists()  # which later clusters would require
