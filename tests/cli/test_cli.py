"""The command line: what a user types, and what a user mistypes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from adapterkit import Registry
from adapterkit.cli.main import main
from adapterkit.discovery import installed
from adapterkit.store.publish import publish
from adapterkit.workflows.plan import run_options
from tests.helpers import tolerance
from tests.helpers.cli import Adapt


@pytest.fixture
def trained(adapt: Adapt, small_csv: Path, tiny_folder: Callable[..., Path]) -> list[str]:
    """Train an adapter named tiny, and return the flags that did it."""
    flags = ["--base", str(tiny_folder()), "--train-file", str(small_csv), "--epochs", "1", "--name", "tiny"]
    flags += ["--validation-split-percentage", "20"]
    done = adapt("run", "--strategy", "head-only", *flags)
    assert done.exit_code == 0, done.output
    return flags


def test_a_strategys_own_flags_are_shown_and_no_others(adapt: Adapt) -> None:
    lora, layerwise = (adapt("run", "--strategy", name, "--help").output for name in ("lora", "layerwise"))
    assert "--lora-alpha" in lora
    assert "rank of the update" in lora.lower()
    assert "--top " not in lora
    assert "--top" in layerwise
    assert "--lora-alpha" not in layerwise
    for flag in ("--learning-rate", "--num-train-epochs", "--per-device-train-batch-size", "--epochs", "--lr"):
        assert flag in lora
        assert flag in layerwise


def test_no_two_options_of_a_run_share_a_spelling() -> None:
    for strategy in (found.name for found in installed()):
        spellings = [s for o in run_options(strategy).values() for s in (o.flag, *o.aliases)]
        assert len(set(spellings)) == len(spellings)


def test_underscores_and_dashes_are_one(adapt: Adapt, trained: list[str]) -> None:
    more = ["--num_train_epochs", "1", "--per_device_train_batch_size=8", "--label_column_name", "label"]
    assert adapt("run", "--strategy", "head-only", *trained, *more).exit_code == 0


def test_run_predict_eval_list_show(adapt: Adapt, trained: list[str], small_csv: Path) -> None:
    answers = json.loads(adapt("predict", "tiny", "lovely food", "a dull film", "--json").stdout)
    assert [sorted(a) for a in answers] == [["label", "score", "text"]] * 2
    piped = json.loads(adapt("predict", "tiny", "--json", input="lovely food\n").stdout)[0]
    assert piped == {**answers[0], "score": pytest.approx(answers[0]["score"], abs=tolerance.TINY)}
    measured = json.loads(adapt("eval", "tiny", "--test-file", small_csv, "--json").stdout)
    assert (measured["n"], measured["split"]) == (24, "test")
    listed = json.loads(adapt("list", "--json").stdout)
    assert listed["tiny"]["strategy"] == "head-only"
    shown = adapt("show", "tiny").stdout
    assert "text-classification: text -> label; 2 labels: neg, pos" in shown
    assert json.loads(adapt("show", "tiny", "--json").stdout)["strategy"]["name"] == "head-only"


def test_eval_reads_columns_of_other_names(adapt: Adapt, trained: list[str], small_csv: Path, tmp_path: Path) -> None:
    rows = small_csv.read_text().splitlines()
    named = tmp_path / "survey.csv"
    named.write_text("\n".join(["comment,mood,label", *(f"{row},x" for row in rows[1:])]) + "\n")
    columns = ["--text-column", "comment", "--label-column", "mood"]
    same, other = (
        json.loads(adapt("eval", "tiny", "--test-file", file, *more, "--json").stdout)
        for file, more in ((small_csv, []), (named, columns))
    )
    assert {**same, "file": ""} == {**other, "file": ""}
    assert (
        "no column named 'coment'; did you mean 'comment'?"
        in adapt("eval", "tiny", "--test-file", named, "--text-column", "coment").stderr
    )
    assert (
        "but adapter 'tiny' reads text"
        in adapt("eval", "tiny", "--test-file", named, "--text-column", "mood,comment").stderr
    )
    assert "columns are those of --test-file" in adapt("eval", "tiny", *columns).stderr


def test_running_the_written_run_yaml_gives_the_same_adapter(adapt: Adapt, trained: list[str]) -> None:
    first = json.loads(adapt("list", "--json").stdout)["tiny"]["version"]
    file = f"store/tiny/{first}/run.yaml"
    again = json.loads(adapt("run", "--config", file, "--json").stdout)
    assert again["version"] == first
    other = json.loads(adapt("run", "--config", file, "--json", "--seed", "3").stdout)
    assert other["version"] != first
    values = yaml.safe_load(Path(other["folder"], "run.yaml").read_text())
    assert (values["seed"], values["num_train_epochs"], values["labels"]) == (3, 1, ["neg", "pos"])


def test_a_file_alone_makes_no_checkpoints_code_run(adapt: Adapt, trained: list[str], tmp_path: Path) -> None:
    """A run.yaml may be a stranger's: to run code takes a flag, too."""
    asks = tmp_path / "run.yaml"
    asks.write_text(yaml.safe_dump({"strategy": "head-only", "trust_remote_code": True}))
    for words in (("run", "--config", asks, *trained), ("plan", "--config", asks, *trained), ("resume", tmp_path)):
        refused = adapt(*words)
        assert refused.exit_code == 2
        assert "confirm it with --trust-remote-code" in refused.stderr
    assert adapt("run", "--config", asks, *trained, "--trust-remote-code").exit_code == 0


@pytest.mark.slow
def test_a_run_yaml_that_is_anyones_is_an_error_of_one_line(
    adapt: Adapt, trained: list[str], registry: Registry
) -> None:
    run_file = registry.folder(*registry.resolve("tiny")) / "run.yaml"
    whole = run_file.read_text()
    for odd in ("[" * 5000, "date: 2024-99-99", "seed: [", "max_train_samples: many", "seed: -1"):
        run_file.write_text(odd)
        done = adapt("eval", "tiny")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), (odd, done.output)
    run_file.write_bytes(b" " * (5 << 20))
    assert "5242880 bytes, expected 4194304 at most" in adapt("eval", "tiny").stderr
    run_file.unlink()
    os.mkfifo(run_file)
    assert "it is no regular file" in adapt("eval", "tiny").stderr
    run_file.unlink()
    values = yaml.safe_load(whole)  # what trained it need not be there any more
    run_file.write_text(yaml.safe_dump({**values, "strategy": "gone@nowhere", "odd_option": 3}))
    assert adapt("eval", "tiny").exit_code == 0


def test_an_adapter_that_tells_little_is_shown_as_json(adapt: Adapt, trained: list[str], registry: Registry) -> None:
    adapter = registry.load("tiny")
    for part in ("parameters", "data"):
        del adapter.manifest[part]
    publish(registry, "little", adapter)
    said = adapt("show", "little")
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert "is incomplete (KeyError('parameters'))" in said.stderr
    assert json.loads(adapt("show", "little", "--json").stdout)["name"] == "little"


def test_what_a_stranger_wrote_moves_no_cursor(
    trained: list[str], registry: Registry, small_csv: Path, tmp_path: Path
) -> None:
    odd = "X\x1b]0;title\x07\x1b[2J\r\nversions   forged\x9b31m\u202e"
    adapter = registry.load("tiny")
    m = adapter.manifest
    adapter.manifest = {
        **m,
        "base": {**m["base"], "model_type": odd},
        "task": {**m["task"], "options": {**m["task"]["options"], "labels": [odd, "pos"]}},
        "strategy": {**m["strategy"], "name": odd, "options": {odd: odd}},
        "metrics": {**m["metrics"], odd: {"n": 3, odd: 0.5}},
    }
    publish(registry, "odd", adapter)
    rows = tmp_path / "odd.csv"
    rows.write_text(small_csv.read_text().replace("neg", "\x1b[31mneg\x9b"))
    commands: list[list[str]] = [["list"], ["show", "odd"], ["diff", "tiny", "odd"], ["predict", "odd", odd]]
    commands += [[*command, "--json"] for command in commands]
    commands += [["plan", *trained, "--train-file", str(rows)], ["eval", "odd", "--file", str(rows)]]
    for command in commands:
        done = CliRunner().invoke(main, command, color=True)  # as on a terminal: click strips colours elsewhere
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.output), (command, done.output)
        assert "\nversions   forged" not in done.output, command


def test_a_run_is_measured_again_on_its_own_rows(adapt: Adapt, trained: list[str]) -> None:
    reported = json.loads(adapt("show", "tiny", "--json").stdout)["metrics"]["validation"]
    again = json.loads(adapt("eval", "tiny", "--json").stdout)
    assert again["split"] == "validation"
    assert {key: again[key] for key in reported} == reported


def test_an_adapter_without_validation_rows_names_other_ways_to_measure_it(adapt: Adapt, trained: list[str]) -> None:
    flags = [*trained[:-1], "0", "--name", "all-rows"]
    assert adapt("run", "--strategy", "head-only", *flags).exit_code == 0
    done = adapt("eval", "all-rows")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "adapt eval all-rows --file FILE" in done.stderr
    assert adapt("eval", "all-rows", "--file", trained[3]).exit_code == 0


def test_an_adapter_is_used_from_another_folder(
    adapt: Adapt, small_csv: Path, tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder(), tmp_path / "here")
    flags = ["--train-file", "rows.csv", "--base", "here", "--name", "near", "--epochs", "1"]
    assert adapt("run", *flags).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert adapt("predict", "near", "x", "--registry", "../registry.json").exit_code == 0
    assert adapt("eval", "near", "--registry", "../registry.json").exit_code == 0


def test_predict_on_the_base_where_it_is_now(adapt: Adapt, trained: list[str], tiny_folder: Any) -> None:
    assert adapt("predict", "tiny", "x", "--base", tiny_folder()).exit_code == 0
    refused = adapt("predict", "tiny", "x", "--base", tiny_folder("bert", 1))
    assert refused.exit_code == 2
    assert "the adapter was trained on base" in refused.stderr


MISTAKES = {
    "strategy": (
        ["run", "--strategy", "lorra"],
        "no strategy named 'lorra'; did you mean 'lora'? installed: bitfit, bottleneck",
    ),
    "task": (["run", "--task", "text-clasification"], "no task named 'text-clasification'; did you mean 'text-class"),
    "command": (["rnu"], "no command 'rnu'; did you mean 'run'? there are run, resume, data, plan"),
    "flag": (
        ["run", "--epoch", "3"],
        "No such option '--epoch'. (Did you mean one of: '--each', '--epochs', '--report'?)",
    ),
    "flag of another": (
        ["run", "--strategy", "full", "--lora-alpha", "3"],
        "strategy full has no option --lora-alpha; few-shot, lora have it",
    ),
    "value": (["run", "--epochs", "many"], "--num-train-epochs must be an integer, got 'many'"),
    "range": (["run", "--epochs", "0"], "num_train_epochs must be >= 1, got 0"),
    "nan": (["run", "--lr", "nan"], "learning_rate must be a finite number >= 0, got nan"),
    "negative": (["run", "--lr", "-1"], "learning_rate must be a finite number >= 0, got -1.0"),
    "seed": (["run", "--seed", "5000000000"], "seed must be < 4294967296, got 5000000000"),
    "length": (["run", "--max-seq-length", "0"], "max_seq_length must be >= 8, got 0"),
    "empty strategy": (["run", "--strategy", ""], "no strategy named ''"),
    "empty file": (["run", "--train-file", ""], "--train-file must not be empty"),
    "dropout": (
        ["run", "--train-file", "rows.csv", "--base", "TINY", "--lora-dropout", "2"],
        "lora_dropout must be >= 0 and < 1, got 2.0",
    ),
    "text is label": (
        ["run", "--train-file", "rows.csv", "--text-column", "label", "--label-column", "label"],
        "column 'label' can't be both the text and the label",
    ),
    "lists of letters": (
        ["run", "--train-file", "rows.csv", "--problem-type", "multi_label_classification"],
        "rows.csv:2: label is pos, but a list of labels was expected",
    ),
    "label twice": (["run", "--train-file", "rows.csv", "--labels", "pos,neg,neg"], "names a label twice"),
    "weights": (["run", "--train-file", "rows.csv", "--label-weights", "1,x"], "expected 2 positive numbers"),
    "choice": (["run", "--lr-scheduler-type", "liner"], "must be one of linear, cosine"),
    "file": (["run", "--train-file", "no.csv"], "no file 'no.csv'; '.' holds empty.csv, one.csv, rows.csv"),
    "kind of file": (["run", "--train-file", "."], ".: files that can be read end in .csv"),
    "demo": (["run", "--dataset", "demo:sentimant"], "did you mean 'sentiment'?"),
    "both": (["run", "--dataset", "demo:sentiment", "--train-file", "rows.csv"], "or files, not both"),
    "column": (["run", "--train-file", "rows.csv", "--label-column", "lable"], "no column named 'lable'; did you mean"),
    "empty": (["run", "--train-file", "empty.csv"], "empty.csv:3: label is empty"),
    "one label": (["run", "--train-file", "one.csv"], "all 2 training rows have the label 'x' in column 'label'"),
    "unseen": (
        ["run", "--train-file", "rows.csv", "--validation-file", "unseen.csv"],
        "unseen.csv:2: no label named 'poss'; did you mean 'pos'? in training: neg, pos",
    ),
    "base": (
        ["run", "--train-file", "rows.csv", "--base", "./nowhere"],
        "no folder './nowhere'; a base is a",
    ),
    "base by name": (
        ["run", "--train-file", "rows.csv", "--base", "minilmm"],
        "no base named 'minilmm'; did you",
    ),
    "base folder": (["run", "--train-file", "rows.csv", "--base", "."], "base '.': no config.json in that folder"),
    "pickled base": (
        ["run", "--train-file", "rows.csv", "--base", "pickled"],
        "base 'pickled': no safetensors",
    ),
    "name with a slash": (["run", "--train-file", "rows.csv", "--name", "a/b"], "'a/b' is no adapter's name"),
    "name with dots": (["run", "--train-file", "rows.csv", "--name", ".."], "'..' is no adapter's name"),
    "config": (["run", "--config", "no.yaml"], "--config no.yaml: No such file or directory"),
    "config key": (
        ["run", "--config", "odd.yaml"],
        "no option of a run with strategy lora named 'epoch'; did you",
    ),
    "config without a strategy": (["run", "--config", "blank.yaml"], "no file 'no.csv'"),
    "config value": (["run", "--config", "bad.yaml"], "--num-train-epochs must be an integer, got 'many'"),
    "config list": (["run", "--config", "list.yaml"], "expected pairs of option: value, got a list"),
    "adapter": (["predict", "nothing", "a text"], "no adapter named 'nothing', since there is no registry.json"),
    "no adapter": (["predict", "--file", "rows.csv"], "rows.csv: which adapter? name one before the texts, or in"),
    "no text": (
        ["predict", "--file", "no.txt"],
        "no file 'no.txt'; '.' holds bad.yaml, blank.yaml, empty.csv, list.yaml, odd.json, odd.yaml, one.csv, rows.csv",
    ),
    "registry": (["list", "--registry", "odd.json"], "'odd.json' is not JSON"),
    "registry in a run": (["run", "--registry", "odd.json"], "'odd.json' is not JSON"),
}


@pytest.mark.parametrize(("args", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: list[str], message: str, adapt: Adapt, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    (tmp_path / "empty.csv").write_text("text,label\na,x\nb,\n")
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\n")
    (tmp_path / "unseen.csv").write_text("text,label\na,poss\n")
    (tmp_path / "odd.yaml").write_text("epoch: 3\n")
    (tmp_path / "bad.yaml").write_text("epochs: many\n")
    (tmp_path / "blank.yaml").write_text("strategy:\ntrain_file: no.csv\n")
    (tmp_path / "list.yaml").write_text("- epochs\n")
    (tmp_path / "odd.json").write_text("{")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    done = adapt(*(str(tiny_folder()) if arg == "TINY" else arg for arg in args))
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    *_, error = [line for line in done.stderr.splitlines() if not line.startswith("try: adapt ")]
    assert error.startswith("Error: ")
    assert len([line for line in done.stderr.splitlines() if "rror" in line]) == 1
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_demo_data_is_listed_and_copied(adapt: Adapt, tmp_path: Path) -> None:
    assert json.loads(adapt("demo", "--json").stdout)["sentiment"] == {"train": 400, "validation": 80, "test": 120}
    assert adapt("demo", "nli", "--out", "there").stdout == "there: test.tsv, train.tsv, validation.tsv\n"
    assert (tmp_path / "there" / "train.tsv").read_text().startswith("premise\thypothesis\tlabel\n")


def test_demo_data_never_takes_a_files_place(adapt: Adapt, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test.csv").write_text("mine")
    done = adapt("demo", "sentiment", "--out", "mine")
    assert (done.exit_code, "'mine/test.csv' already exists" in done.stderr) == (2, True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["test.csv"]
    assert (tmp_path / "mine" / "test.csv").read_text() == "mine"


def test_base_says_where_a_base_lies(adapt: Adapt, tiny_folder: Callable[..., Path]) -> None:
    assert adapt("base", tiny_folder()).stdout == f"{tiny_folder()}\n"
    assert (Path(adapt("base", "minilm").stdout.strip()) / "model.safetensors").is_file()


def test_debug_shows_the_traceback(adapt: Adapt) -> None:
    done = adapt("run", "--strategy", "lorra", "--debug")
    assert done.exception is not None
    command = [sys.executable, "-m", "adapterkit.cli", "run", "--strategy", "lorra", "--debug"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "Traceback" in shown
    assert "StrategyError: no strategy named 'lorra'" in shown


def test_a_registry_in_a_place_that_can_not_be_written_is_said_before_training(adapt: Adapt) -> None:
    done = adapt("run", "--registry", "/proc/nowhere/registry.json")
    assert done.exit_code == 2
    assert "Error: can't write '/proc/nowhere'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("adapt ru", "run"),
        ("adapt run --strategy la", "layerwise"),
        ("adapt run --strategy lora --lora-a", "--lora-alpha"),
        ("adapt run --strategy layerwise --to", "--top"),
        ("adapt run --lr-scheduler-type cos", "cosine"),
        ("adapt show ti", "tiny"),
    ],
)
def test_the_shell_completes(words: str, expected: str, trained: list[str], tmp_path: Path) -> None:
    env = {
        **os.environ,
        "_ADAPT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    adapt = Path(sys.executable).with_name("adapt")
    done = subprocess.run([adapt], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert expected in [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_an_error_of_columns_says_how_the_file_was_read(adapt: Adapt, tmp_path: Path, tiny_folder: Any) -> None:
    (tmp_path / "semi.csv").write_text("note;value\nI like; it\nbad thing;no\nfine;yes\n")
    done = adapt("run", "--train-file", tmp_path / "semi.csv", "--base", tiny_folder())
    assert done.exit_code == 2
    assert "no task fits the columns note, value; give --task" in done.stderr
    assert "semi.csv: separated by ';')" in done.stderr
