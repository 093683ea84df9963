"""Two processes do what one does: losses, metrics, adapters; sharded, launched, and when one of them fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import Result

from adapterkit import Plan, Registry, run
from adapterkit.testing import tiny
from tests.helpers import forked, worker
from tests.helpers.files import ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora"},
    "full": {"strategy": "full"},
    "layerwise": {"strategy": "layerwise", "top": 1},  # the trunk is filled by both
    "head-only": {"strategy": "head-only", "head": "model"},
    "probe": {"strategy": "head-only"},
    "stranger": {"strategy": "lora", "learning_rate": 1e-2},
    "tokens": {
        "strategy": "lora",
        "task": "token-classification",
    },  # a mean over tokens, of which each has its own count
    "accumulated": {"strategy": "lora", "gradient_accumulation_steps": 2, "num_train_epochs": 3},
    "recomputed": {"strategy": "full", "gradient_checkpointing": True},
    "settling": {"strategy": "layerwise", "top": 3, "freezing": "auto", "num_train_epochs": 3},
    "thawing": {"strategy": "layerwise", "top": 3, "unfreezing": "gradual", "num_train_epochs": 3},
    "dora": {"strategy": "lora", "use_dora": True, "loraplus_lr_ratio": 4.0},
    "pissa": {"strategy": "lora", "init_lora_weights": "pissa"},
    "masks": {
        "strategy": "full",
        "task": "fill-mask",
        "learning_rate": 1e-3,
        "num_train_epochs": 3,
    },  # drawn anew in every epoch
}
SHARDED = ("lora", "full")
LONG = {"num_train_epochs": 12}  # the training that a signal stops


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base without dropout, and rows whose number no batch divides."""
    where = tmp_path_factory.mktemp("processes")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tiny.make("bert", where / "base", **still)
    tiny.make("bert", where / "masks", head="AutoModelForMaskedLM", **still)
    words = [
        "lovely food",
        "awful film",
        "a great and friendly place to be in",
        "rude",
        "so happy",
        "i want it back now",
    ]
    with (where / "rows.jsonl").open("w") as file:
        for i in range(43):
            file.write(json.dumps({"text": f"{words[i % 6]} {i}", "label": ["good", "bad"][i % 2]}) + "\n")
    with (where / "tokens.jsonl").open("w") as file:
        for i in range(43):
            tokens = f"{words[i % 6]} {i}".split()
            file.write(json.dumps({"tokens": tokens, "tags": ["B-X" if len(t) > 4 else "O" for t in tokens]}) + "\n")
    with (where / "texts.txt").open("w") as file:
        file.writelines(f"{words[i % 6]} {words[(i + 1) % 6]} {i}\n" for i in range(61))
    return where


def job(folder: Path, name: str, out: Path, rows: int, **more: Any) -> dict[str, Any]:
    own = STRATEGIES[name]
    data = {"token-classification": "tokens.jsonl", "fill-mask": "texts.txt"}.get(own.get("task", ""), "rows.jsonl")
    values = {
        "base": str(folder / ("masks" if own.get("task") == "fill-mask" else "base")),
        "dataset": str(folder / data),
        "num_train_epochs": 2,
        "per_device_train_batch_size": rows,
        "per_device_eval_batch_size": 4,
        "validation_split_percentage": 30,
        "mixed_precision": "no",
    }
    return {"plan": {**values, **own}, "out": str(out), "stranger": name == "stranger", **more}


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return for each training what each of two processes found, all from one launch."""
    jobs = {name: job(folder, name, folder / "two" / name, 4) for name in STRATEGIES}
    jobs["long"] = job(folder, "lora", folder / "two" / "long", 4)
    jobs["long"]["plan"] |= LONG
    jobs |= {f"{n} sharded": job(folder, n, folder / "two" / f"{n} sharded", 4, shard=True) for n in SHARDED}
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    command = [sys.executable, "-m", "tests.helpers.worker", str(folder / "jobs.json"), str(folder / "two.json")]
    said = forked.run(command, env=ENV, cwd=ROOT)
    assert said.returncode == 0, said.stderr[-4000:]
    first, second = json.loads((folder / "two.json").read_text())
    return {name: [first[i], second[i]] for i, name in enumerate(jobs)}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STRATEGIES, *(f"{name} sharded" for name in SHARDED)])
def test_two_processes_learn_what_one_learns(name: str, folder: Path, two: dict[str, list[dict[str, Any]]]) -> None:
    one = worker.trained(job(folder, name.partition(" ")[0], folder / "one" / name, 8))
    first, second = two[name]
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert len(one["losses"]) >= (0 if name == "probe" else 3 * 2)
    assert first["metrics"] == second["metrics"]
    if name == "masks":  # a mean of losses
        assert first["metrics"]["perplexity"] == pytest.approx(one["metrics"]["perplexity"], rel=1e-4)
    else:
        assert first["metrics"] == one["metrics"]
    assert first["untouched"]
    assert second["untouched"]
    assert first["format"] == one["format"]
    found, wanted = tensors(folder / "two" / name), tensors(folder / "one" / name)
    assert found.keys() == wanted.keys()
    for key in wanted:
        if key.endswith("key.bias"):  # which changes no attention, so that rounding alone moves it
            continue
        # a probe is solved until its gradient is small, which on nearly collinear states leaves its weights some room
        solved = 0.01 * wanted[key].abs().max().item() if name == "probe" else 0.0
        torch.testing.assert_close(found[key], wanted[key], atol=2e-4 + solved, rtol=2e-3)


def test_the_trunk_is_filled_by_both_and_each_example_once(two: dict[str, list[dict[str, Any]]]) -> None:
    said = [line for line in two["layerwise"][0]["said"] if line.startswith("trunk")]
    assert said[0].startswith("trunk: 2 of 3 blocks run once over 43 texts; hidden states cached")
    each = [found["filled"] for found in two["layerwise"]]
    assert sum(each) == 43
    assert min(each) > 0


@pytest.mark.slow
def test_a_run_is_launched_by_accelerate(folder: Path, tmp_path: Path) -> None:
    """By `adapt run --num-processes` it is below, where a signal stops it, and by torchrun for two nodes."""
    options = job(folder, "lora", tmp_path, 4)["plan"]
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    run = ["run", *flags, "--name", "both", "--registry", str(tmp_path / "registry.json")]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*accelerate, "--main_process_port", "0", "-m", "adapterkit.cli", *run]
    said = forked.run(command, launches=True, env=ENV, cwd=tmp_path)
    assert said.returncode == 0, said.stderr[-3000:]
    assert said.stdout.count("saved ") == 1
    assert sum(line.startswith("2/2 ") for line in said.stderr.splitlines()) == 1
    assert list(Registry(tmp_path / "registry.json").adapters()) == ["both"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_error_of_any_process_is_the_runs(folder: Path, tmp_path: Path) -> None:
    missing = [
        "run",
        "--base",
        str(folder / "base"),
        "--train-file",
        str(tmp_path / "none.csv"),
        "--num-processes",
        "2",
    ]
    said = subprocess.run(
        [sys.executable, "-m", "adapterkit.cli", *missing], env=ENV, cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 2
    assert said.stderr.count("none.csv") == 1
    (tmp_path / "second_fails.py").write_text(
        "import os\n"
        "from adapterkit import cli\n"
        "from adapterkit.workflows import run as workflow\n"
        "from adapterkit.errors import TrainingError\n"
        "prepare_run = workflow.prepare_run\n"
        "def fails(*args, **kwargs):\n"
        "    found = prepare_run(*args, **kwargs)\n"
        "    if os.environ['RANK'] == '1': raise TrainingError('the second one says so')\n"
        "    return found\n"
        "workflow.prepare_run = fails\n"
        "cli.main(prog_name='adapt')\n"
    )
    rows = ["run", "--base", str(folder / "base"), "--dataset", str(folder / "rows.jsonl")]
    began = time.monotonic()
    command = [*TORCHRUN, str(tmp_path / "second_fails.py"), *rows]
    said = forked.run(command, launches=True, env=ENV, cwd=tmp_path)
    assert said.returncode != 0
    assert said.stderr.count("Error: process 1: the second one says so") == 1
    assert time.monotonic() - began < 60
    assert not (tmp_path / "registry.json").exists()


@pytest.mark.slow
def test_two_nodes_are_two_launchers(folder: Path, tmp_path: Path) -> None:
    """Each in a folder of its own, as on machines without a shared disk."""
    options = job(folder, "layerwise", tmp_path, 4)["plan"]
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    with socket_port() as port:
        nodes = []
        for rank in range(2):
            (here := tmp_path / f"node{rank}").mkdir()
            where = ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"]
            where += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
            command = [sys.executable, "-m", "torch.distributed.run", *where, "-m", "adapterkit.cli", "run", *flags]
            env = {**ENV, "HF_DATASETS_CACHE": str(here / "cache")}
            nodes.append(subprocess.Popen([*command, "--name", "far"], env=env, cwd=here, stderr=subprocess.PIPE))
        said = [node.communicate(timeout=300)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert list(Registry(tmp_path / "node0" / "registry.json").adapters()) == ["far"]
    assert not (tmp_path / "node1" / "registry.json").exists()
    assert "2 of 3 blocks run once" in said[0]
    one = worker.trained(job(folder, "layerwise", tmp_path / "one", 8))
    entry = Registry(tmp_path / "node0" / "registry.json").load("far")
    assert entry.manifest["metrics"]["validation"]["accuracy"] == one["metrics"]["accuracy"]


def socket_port() -> Any:
    """Return a port that is free now, once it is entered."""
    import contextlib
    import socket

    @contextlib.contextmanager
    def port() -> Any:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            number = found.getsockname()[1]
        yield number

    return port()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "number"),
    [(1, signal.SIGINT), (2, signal.SIGTERM)],
    ids=["one SIGINT", "two SIGTERM"],
)
def test_a_signal_writes_a_checkpoint_and_a_resumed_run_is_the_run(
    count: int,
    number: signal.Signals,
    folder: Path,
    two: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
    adapt: Callable[..., Result],
) -> None:
    options = {**job(folder, "lora", tmp_path, 4)["plan"], **LONG, "save_minutes": 1000}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    launched = ["--num-processes", "2", "--", "--rdzv_backend=static"] if count == 2 else []
    command = [sys.executable, "-m", "adapterkit.cli", "run", *flags, "--name", "long", *launched]
    env = ENV if count == 1 else {**ENV, "OMP_NUM_THREADS": "1"}  # as what each is compared with
    how = {"launches": count == 2, "start_new_session": True}
    process = forked.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True, **how)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("2/"):
            os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
            break
    said = process.stderr.read()
    assert process.wait(60) in (128 + number, -number), said
    assert f"stopped by {number.name} in epoch" in said
    assert not (tmp_path / "registry.json").exists()
    listed = adapt("resume", "--registry", tmp_path / "registry.json")
    assert "long" in listed.stdout
    resume = ["resume", "long"]
    if count == 1:
        again = adapt(*resume)
        resumed, code = again.stderr, again.exit_code
    else:
        command = [sys.executable, "-m", "adapterkit.cli", *resume]
        done = forked.run(command, launches=True, env=env, cwd=tmp_path)
        resumed, code = done.stderr, done.returncode
        assert done.stdout.count("saved ") == 1
        assert sum(line.startswith("12/12 ") for line in resumed.splitlines()) == 1
    assert code == 0, resumed
    assert "resumed    at step" in resumed
    registry = Registry(tmp_path / "registry.json")
    if count == 1:
        undisturbed = run(Plan.resolve({**options, "name": "long"}), Registry(tmp_path / "undisturbed.json"))
        assert registry.adapters()["long"]["current"] == undisturbed.version
    else:
        found, wanted = registry.load("long"), tensors(folder / "two" / "long")
        assert found.tensors.keys() == wanted.keys()
        assert all(torch.equal(found.tensors[key], wanted[key]) for key in wanted)


def test_one_of_several_leaves_with_its_code_after_what_was_to_happen_at_exit() -> None:
    code = "import atexit, sys; from adapterkit.execution import processes; atexit.register(print, 'cleaned')\n"
    code += "print('done'); processes.leave(SystemExit(int(sys.argv[1])))"
    for size in ("1", "2"):
        env = {**ENV, "WORLD_SIZE": size}
        done = subprocess.run([sys.executable, "-c", code, "3"], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (3, "done\ncleaned\n")
