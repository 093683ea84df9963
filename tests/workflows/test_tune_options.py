"""adapt tune: choices, ranges and mistakes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Plan
from adapterkit.errors import OptionError
from adapterkit.workflows import search_space
from adapterkit.workflows.tune import tune
from tests.helpers.cli import Adapt


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("r=4,8, 16", "4,8,16"),
        ("r=2..16", "2..16:linear"),
        ("r=2..16:log", "2..16:log"),
        ("lr=1e-4..1e-2", "0.0001..0.01:log"),
        ("learning_rate=1e-4..1e-2:linear", "0.0001..0.01:linear"),
        ("lora_dropout=0..0.3", "0.0..0.3:linear"),
        ("target-modules=query+value,all-linear", "query+value,all-linear"),
        ("group_by_length=true,false", "True,False"),
        ("lr_scheduler_type=linear,cosine", "linear,cosine"),
        ("epochs=2,3,2", "2,3"),
    ],
)
def test_choices_and_ranges_are_read(text: str, space: str, planned: Callable[..., Plan]) -> None:
    name, _, values = text.partition("=")
    (read,) = search_space.read_search(planned("lora"), {name: values}).values()
    assert str(read) == space
    assert str(*search_space.read_search(planned("lora"), {name: str(read)}).values()) == space


MISTAKES = {
    "unknown": (["--search", "rr=4,8"], "no option of a run with strategy lora named 'rr'"),
    "search strategy": (
        ["--search", "strategy=lora,head-only"],
        "--search strategy: all trials of a study have one strategy",
    ),
    "search task": (["--search", "r=4", "--search", "task=a,b"], "--search task: all trials of a study have one task"),
    "form": (["--search", "r"], "--search r: expected NAME=A,B,C or NAME=LOW..HIGH"),
    "type": (["--search", "r=4,many"], "--r must be an integer, got 'many'"),
    "auto": (["--search", "lr=auto"], "--learning-rate must be a number, got 'auto'"),
    "order": (["--search", "lr=1e-2..1e-3"], "LOW must be < HIGH, got 0.01 and 0.001"),
    "log": (["--search", "lora_dropout=0..0.3:log"], "LOW must be > 0 on a logarithmic scale"),
    "scale": (["--search", "r=4..8:cubic"], "LOW..HIGH:log or LOW..HIGH:linear"),
    "no range": (["--search", "lr_scheduler_type=a..b"], "A,B,C or, for a number, LOW..HIGH"),
    "choice": (["--search", "lr_scheduler_type=linear,liner"], "must be one of linear, cosine"),
    "value": (["--search", "warmup_ratio=0.1,2"], "warmup_ratio must be between 0 and 1, got 2.0"),
    "data": (["--search", "max_seq_length=32,64"], "rows, task and base are the same in all trials; can be searched: "),
    "seed": (["--search", "seed=1,2"], "--search seed: it decides which rows are cut off"),
    "trials": (["--trials", "0"], "--trials must be >= 1, got 0"),
    "auto rate": (["--learning-rate", "auto"], "in a study, give --search learning_rate=LOW..HIGH"),
    "no rate": (["--learning-rate", "0"], "learning_rate=0 has no default search"),
    "resume": (["--resume", "--name", "other"], "no study named 'other'; in 'tuning': none"),
    "nameless": (["--resume"], "--resume continues a study; name it with --name"),
    "strategy": (["--strategy", "layerwise", "--top", "9"], "top=9, but the base has 3 blocks"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line(mistake: str, adapt: Adapt, small_csv: Path, tiny_folder: Any) -> None:
    flags, said = MISTAKES[mistake]
    done = adapt("tune", "--base", tiny_folder(), "--train-file", small_csv, *flags)
    assert done.exit_code == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert said in error


def test_the_default_search_lies_around_the_strategys_own_options(planned: Callable[..., Plan]) -> None:
    assert search_space.default_search(planned("lora")) == {
        "learning_rate": "0.0001..0.01:log",
        "r": "4,8,16",
        "lora_alpha": "8,16,32",
    }
    assert search_space.default_search(planned("layerwise", learning_rate=1e-3)) == {
        "learning_rate": "0.0001..0.01:log"
    }


def test_without_optuna_it_says_how_to_get_it(
    planned: Callable[..., Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match=r"pip install 'adapterkit\[tune\]'"):
        tune(planned("lora"), tmp_path / "tuning")
