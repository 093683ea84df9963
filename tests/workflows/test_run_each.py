"""Many tasks trained in one process: each adapter is that of a run alone; one that fails is a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterkit import Base

Adapt = Callable[..., Any]
STRATEGIES = ["head-only", "lora"]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Return a folder with a folder of files, a file of rows, a file without rows and a hidden one."""
    folder = tmp_path / "tasks"
    for name, labels in (("mood", ["good", "bad"]), ("size", ["small", "large", "huge"])):
        path = folder / name / "train.csv" if name == "mood" else folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            rows.writerows(
                [f"a {labels[i % len(labels)]} thing, number {i}", labels[i % len(labels)]] for i in range(36)
            )
    (folder / "empty.csv").write_text("text,label\n")
    (folder / ".notes.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.fixture
def flags(tiny_folder: Callable[..., Path]) -> list[str]:
    return ["--base", str(tiny_folder()), "--epochs", "2"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_adapter_is_that_of_a_run_alone(
    strategy: str, tasks: Path, flags: list[str], adapt: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = Base.load

    def counted(*args: Any, **kwargs: Any) -> Base:
        loads.append(args)
        return load(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Base, "load", counted)
        done = adapt(
            "run", "--each", tasks, "--strategy", strategy, *flags, "--registry", "each/registry.json", "--json"
        )
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "Error: 1 of 3 tasks failed"
    found = {result["task"]: result for result in json.loads(done.stdout)}
    assert list(found) == ["empty", "mood", "size"]
    assert "no rows" in found["empty"]["error"]
    assert len(loads) == 1
    for name in ("mood", "size"):
        data = tasks / ("mood" if name == "mood" else "size.csv")
        alone = adapt(
            "run", "--dataset", data, "--strategy", strategy, *flags, "--registry", "alone/registry.json", "--json"
        )
        report = json.loads(alone.stdout)
        assert (found[name]["name"], found[name]["version"]) == (report["name"], report["version"])
        assert found[name]["metrics"] == report["metrics"]


def test_a_list_has_options_of_its_own(tasks: Path, flags: list[str], adapt: Adapt, tmp_path: Path) -> None:
    entries = [
        {"name": "m", "train-file": str(tasks / "mood" / "train.csv"), "strategy": "lora", "r": 2},
        {"name": "s", "train_file": str(tasks / "size.csv")},
    ]
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(entries))
    done = adapt("run", "--each", "list.yaml", *flags, "--strategy", "head-only")
    assert done.exit_code == 2  # the flag holds for both, and head-only has no rank
    assert "failed     m: " in done.stderr
    del entries[0]["strategy"], entries[0]["r"]
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(entries))
    done = adapt("run", "--each", "list.yaml", *flags, "--strategy", "head-only")
    assert done.exit_code == 0, done.output
    assert [line.split()[:2][0] for line in done.stdout.splitlines()] == ["task", "m", "s"]
    assert [line.split()[0] for line in adapt("list").stdout.splitlines()[1:]] == ["m", "s"]


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (None, [], "--each tasks.yaml: no such folder"),
        ("a: b", [], "--each tasks.yaml: expected a list with the options of each run"),
        ("[]", [], "--each tasks.yaml: expected a list with the options of each run"),
        ("[3]", [], "--each tasks.yaml: expected a list with the options of each run"),
        ("[{", [], "--each tasks.yaml is not YAML"),
        ("- name: a\n- name: a", [], "--each tasks.yaml: two entries are 'a'; give each a name"),
        ("- name: a", ["--train-file", "x.csv"], "--train-file is of one run, and --each trains several"),
        ("- name: a", ["--name", "x"], "--name is of one run, and --each trains several"),
        ("- name: a", ["--num-processes", 2], "--each trains in one process and writes no page"),
    ],
)
def test_what_is_no_list_of_tasks_is_refused(
    content: str | None, more: list[Any], message: str, adapt: Adapt, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "tasks.yaml").write_text(content)
    done = adapt("run", "--each", "tasks.yaml", *more)
    assert done.exit_code == 2
    assert message in done.stderr.splitlines()[-1]
