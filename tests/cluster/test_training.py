"""`adapt run --num-processes N --on ray`: the adapter of one machine, also where a node dies on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ray_cluster import Cluster

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
FILES = ("adapter.json", "adapter_model.safetensors", "run.yaml")


def test_a_run_of_two_processes_goes_on_where_a_node_is_killed(
    cluster: Cluster, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    rows = [f"a {'xy'[i % 2]} thing {i},{'xy'[i % 2]}" for i in range(160)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    command = [sys.executable, "-m", "adapterkit.cli", "run", "--train-file", "rows.csv", "--base", tiny_folder()]
    command += ["--strategy", "lora", "--epochs", 30, "--save-steps", 20, "--num-processes", 2, "--name", "a"]

    def run(place: str, *more: Any) -> subprocess.CompletedProcess[str]:
        flags = [*command, "--registry", f"{place}/registry.json", *more]
        return subprocess.run(list(map(str, flags)), cwd=tmp_path, capture_output=True, text=True, timeout=500)

    here = run("here")
    assert here.returncode == 0, here.stderr
    killed, over = [], threading.Event()

    def kill() -> None:
        """Kill a node once there is a checkpoint, and start another for it."""
        while not over.wait(0.05):
            if list((tmp_path / "there").glob("runs/a/*/*/*")):
                killed.append(cluster.nodes[0].node_id)
                cluster.kill(killed[0])
                cluster.fill()
                return

    killer = threading.Thread(target=kill)
    killer.start()
    there = run("there", "--on", "ray", "--ray-address", cluster.address)
    over.set()
    killer.join()
    assert there.returncode == 0, there.stderr
    assert len(killed) == 1
    (mine,), (theirs,) = (list((tmp_path / place / "store/a").glob("*/")) for place in ("here", "there"))
    assert mine.name == theirs.name
    for file in FILES:
        assert (mine / file).read_bytes() == (theirs / file).read_bytes()
    assert not list((tmp_path / "there/runs").iterdir())


def test_an_error_of_the_run_is_one_line(cluster: Cluster, tmp_path: Path, tiny_folder: Callable[..., Path]) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    command = [sys.executable, "-m", "adapterkit.cli", "run", "--train-file", "rows.csv", "--base", str(tiny_folder())]
    command += ["--label-column", "none", "--num-processes", "2", "--on", "ray", "--ray-address", cluster.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "none" in done.stderr.splitlines()[-1]
