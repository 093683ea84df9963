"""The parts of a checkpoint's state: position, random numbers, the strategy's tensors, the number of processes."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapterkit import Base, Watch
from adapterkit.plugins.bitfit import BitFit
from adapterkit.settings import SavingOptions
from adapterkit.testing import bench
from adapterkit.training import checkpoints, training_state
from adapterkit.training.checkpoints import ABOUT, Checkpoint, Checkpoints
from adapterkit.training.training_state import Position


def test_the_next_epoch_begins_at_its_first_batch() -> None:
    position = Position(epoch=2, batches=7, steps=19, loss=3.5, learning=["a"])
    assert position.next_epoch() == Position(epoch=3, batches=0, steps=19, loss=0.0, learning=None)


def drawn() -> list[float]:
    """Draw from each generator; an odd number of normals, so that each has one in reserve."""
    return [random.random(), random.gauss(0, 1), *np.random.rand(2), np.random.randn(), *torch.rand(2).tolist()]


def test_all_random_numbers_continue_from_a_stored_state() -> None:
    device = torch.device("cpu")
    drawn()
    state, arrays = training_state._random_state(device)
    state = json.loads(json.dumps(state))  # as a checkpoint stores it
    expected = drawn() + drawn()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    training_state._set_random_state(state, arrays, device)
    assert drawn() + drawn() == expected


def test_the_random_numbers_of_a_gpu_continue_too(monkeypatch: pytest.MonkeyPatch) -> None:
    device, states = torch.device("cuda", 1), {torch.device("cuda", 1): torch.tensor([1, 2, 3], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: state}))
    state, arrays = training_state._random_state(device)
    states[device] = torch.zeros(3, dtype=torch.uint8)
    training_state._set_random_state(state, arrays, device)
    assert states[device].tolist() == [1, 2, 3]
    states[device] = torch.zeros(3, dtype=torch.uint8)
    training_state._set_random_state(state, arrays, torch.device("cpu"))  # resumed where there is no GPU
    assert states[device].tolist() == [0, 0, 0]


class Counted(BitFit):
    """Store the sum of a parameter of the base."""

    def state(self, base: nn.Module) -> dict[str, Tensor]:
        return {"sum": next(base.parameters()).detach().sum().reshape(1)}


def test_a_strategys_state_is_computed_from_the_base(tiny_base: Base, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Saved(Checkpoints):
        def save(self, checkpoint: Checkpoint, step: int) -> bool:
            seen.append(checkpoint.tensors["strategy/sum"])
            return True

    runs = Saved(tmp_path / "runs" / "a" / "run", SavingOptions(save_steps=1), {}, b"", Watch())
    with contextlib.closing(runs):
        bench.trained(tiny_base, Counted(), checkpoints=runs)
    assert seen
    assert seen[0] == next(tiny_base.model.parameters()).detach().sum()


def checkpoint_of(folder: Path, **identity: Any) -> Path:
    """Write the folder of a run with one checkpoint."""
    with contextlib.closing(Checkpoints(folder, SavingOptions(), identity, b"")) as runs:
        assert runs.save(Checkpoint({}, {"learns/x": torch.zeros(2)}), 3)
    return checkpoints.committed(folder)[0][2]


def test_a_run_of_three_processes_is_resumed_with_three(tmp_path: Path) -> None:
    checkpoint_of(tmp_path / "runs" / "a" / "run", processes=3)
    assert checkpoints.processes_of(tmp_path / "runs" / "a" / "run") == 3
    assert checkpoints.processes_of(tmp_path / "runs" / "a" / "none") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b"{"),
        lambda file: file.write_bytes(b"[]"),
        lambda file: file.write_bytes(b"{}"),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"processes"', b'"process"')),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"processes": 3', b'"processes": "x"')),
    ],
    ids=["gone", "cut", "list", "empty", "no key", "no number"],
)
def test_the_number_of_processes_of_a_damaged_checkpoint_is_one(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    damage(checkpoint_of(tmp_path / "runs" / "a" / "run", processes=3) / ABOUT)
    assert checkpoints.processes_of(tmp_path / "runs" / "a" / "run") == 1
