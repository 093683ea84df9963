"""Where tasks are computed: the flags, the workers that a cluster has room for, and this process by default."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapterkit.cluster import Local, Placement, open_executor
from adapterkit.cluster.ray_connection import connect, environment, resources
from adapterkit.errors import AdapterkitError, ClusterError, OptionError

Adapt = Callable[..., Any]


@contextlib.contextmanager
def squares(events: list[str]) -> Iterator[Callable[[int], int]]:
    events.append("opened")
    yield lambda task: task * task
    events.append("closed")


def test_this_process_takes_a_task_when_its_result_is_requested() -> None:
    events: list[str] = []
    tasks = (events.append(f"task {i}") or i for i in range(3))
    with open_executor(Placement()) as executor:
        assert isinstance(executor, Local)
        results = executor.map(lambda: squares(events), tasks)
        assert next(results) == 0
        assert events == ["opened", "task 0"]
        assert list(results) == [1, 4]
    assert events[-1] == "closed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers must be > 0, got 0"),
        ({"ray_address": "a:1"}, "--ray-address a:1 is for --on ray"),
        ({"on": "ray", "cpus_per_worker": 0.0}, "--cpus-per-worker must be > 0, got 0.0"),
        ({"on": "ray", "gpus_per_worker": -1.0}, "--gpus-per-worker must be > 0, got -1.0"),
    ],
)
def test_a_placement_that_makes_no_sense_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Placement(**options)


def node(cpus: int, gpus: int = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {name: float(n) for name, n in (("CPU", cpus), ("GPU", gpus)) if n}}


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([node(0), node(4), node(8)], {}, (2, 4, 0)),
        ([node(4), node(4, alive=False)], {}, (1, 4, 0)),
        ([node(2), node(64, 8), node(64, 8)], {}, (16, 1, 1)),
        ([node(8), node(8)], {"cpus_per_worker": 2.0, "workers": 6}, (6, 2, 0)),
        ([node(8, 2)], {"gpus_per_worker": 0.0}, (1, 8, 0)),
    ],
)
def test_workers_fit_the_cluster(
    nodes: list[dict[str, Any]], options: dict[str, Any], expected: tuple[int, float, float]
) -> None:
    size = resources(Placement(on="ray", **options), nodes)
    assert (size.workers, size.cpus, size.gpus) == expected


def test_more_workers_than_fit_are_an_error() -> None:
    placement = Placement(on="ray", cpus_per_worker=2.0, workers=60)
    with pytest.raises(ClusterError, match=r"--workers 60: the cluster has room for 8 with 2 CPUs and 0 GPUs each"):
        resources(placement, [node(8), node(8)])


def test_a_cluster_without_room_is_an_error() -> None:
    with pytest.raises(ClusterError, match=r"no node .* worker with 1 CPUs and 1 GPUs; there are: 2 CPUs and 0 GPUs"):
        resources(Placement(on="ray", gpus_per_worker=1.0), [node(2)])


class OtherRay:
    """A Ray whose `init` raises."""

    __version__ = "2.60.0"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def is_initialized(self) -> bool:
        return False

    def init(self, *_: Any, **__: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1:1", None, "no Ray answers at 127.0.0.1:1 .*; start one with `ray start --head`"),
        ("nonsense", None, "'nonsense' is no address of Ray; expected HOST:PORT"),
        ("auto", ConnectionError("Could not find any running Ray instance"), "no Ray answers at auto"),
        (
            "listening",
            ConnectionError("timed out"),
            "doesn't accept this process; where it requires a token, set RAY_AUTH",
        ),
        (
            "auto",
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1\nThis"),
            "runs Ray 2.9.0 on Python 3.10.1, and this process Ray 2.60.0; install the same on both",
        ),
        ("local", ValueError("no\nroom"), "Ray at local can't be used: no room"),
    ],
)
def test_a_ray_that_cannot_be_used_is_one_line(address: str, error: Exception | None, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}" if address == "listening" else address
        placement = Placement(on="ray", ray_address=address)
        with pytest.raises(ClusterError, match=message) as raised:
            connect(OtherRay(error or AssertionError()), placement)
    assert "\n" not in str(raised.value)


def test_workers_get_settings_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = {"HF_HUB_OFFLINE", "OMP_NUM_THREADS", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"}
    secret = {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"}
    for name in passed | secret:
        monkeypatch.setenv(name, "1")
    assert passed <= set(environment())
    assert not secret & set(environment())


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_line_names_the_command() -> None:
    with pytest.raises(AdapterkitError, match=r"--on ray requires Ray: pip install 'adapterkit\[ray\]'"):
        open_executor(Placement(on="ray"))


def test_one_run_on_a_cluster_is_of_several_processes(adapt: Adapt) -> None:
    for more in ((), ("--num-processes", 2, "--workers", 2)):
        done = adapt("run", "--on", "ray", *more)
        assert done.exit_code == 2
        assert "--on ray trains the tasks of --each, or one adapter by --num-processes N alone" in done.stderr
