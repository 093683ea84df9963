"""What people meet first: help in sections, completed commands, files among words, tables, names that exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from adapterkit.cli.common import predict_command, registry_option
from adapterkit.cli.main import ALIASES, COMMANDS, SECTIONS
from adapterkit.discovery import installed, strategy_class
from adapterkit.options import options
from adapterkit.tasks import TASKS
from tests.helpers.cli import Adapt


def sections_of(text: str) -> dict[str, str]:
    """Return what stands under each title of a help page."""
    sections: dict[str, str] = {}
    title = ""
    for line in text.splitlines():
        if line and not line.startswith(" ") and line.endswith(":"):
            title = line[:-1]
        sections[title] = sections.get(title, "") + line + "\n"
    return sections


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """An export whose columns have names that no task knows, with rows that lack a text or a label."""
    rows = [
        f"a {word} film number {i};{stars};{'x@b.org' * (i % 2)};closed"
        for i in range(12)
        for word, stars in (("good", "up"), ("bad", "down"))
    ]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["opinion;verdict;who;state", *rows, "one more;;;closed", ";up;;closed"]) + "\n")
    return path


def test_every_command_is_in_one_section_and_has_a_help_of_its_own(adapt: Adapt) -> None:
    shown = sections_of(adapt("--help").output)
    for title, commands in SECTIONS.items():
        for name, text in commands.items():
            assert f"  {name} " in shown[title]
            assert len(text) < 70
            assert adapt(name, "--help").exit_code == 0
    assert sum(map(len, SECTIONS.values())) == len(COMMANDS)


@pytest.mark.parametrize("strategy", [found.name for found in installed()])
def test_the_help_of_a_run_shows_common_flags_and_those_of_its_strategy(adapt: Adapt, strategy: str) -> None:
    short, every = (adapt("run", "--strategy", strategy, flag).output for flag in ("--help", "--help-all"))
    for option in options(strategy_class(strategy)).values():
        assert option.flag in sections_of(short)["Strategy"]
    assert "--train-file" in sections_of(short)["Data"]
    assert "--epochs" in sections_of(short)["Training"]
    assert "--weight-decay" not in short
    assert "--weight-decay" in sections_of(every)["Training"]
    assert "--save-steps" in sections_of(every)["Checkpoints"]
    hidden = int(short.splitlines()[-1].split()[0])
    count = [sum(line.startswith("  -") for line in text.splitlines()) for text in (short, every)]
    assert count[1] - count[0] == hidden


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_help_of_a_task_has_its_flags_and_no_other_tasks(adapt: Adapt, task: str) -> None:
    shown = sections_of(adapt("run", "--task", task, "--help-all").output)["Task"]
    own = set(options(TASKS[task]))
    for name, other in TASKS.items():
        for option in options(other).values():
            if option.name in own:
                assert option.flag in shown
            elif name != task:
                assert f"{option.flag} " not in shown


@pytest.mark.parametrize("name", ["run", "plan", "tune", "compare"])
def test_flags_under_task_are_those_of_tasks(adapt: Adapt, name: str) -> None:
    rows = re.findall(r"^  (--.*)", sections_of(adapt(name, "--help-all").output)["Task"], re.MULTILINE)
    known = {"--task", *(option.flag for task in TASKS.values() for option in options(task).values())}
    assert len(rows) > 10
    assert [row for row in rows if not known & set(re.split("[ ,]+", row))] == []


def test_the_help_infers_the_task_from_the_file(adapt: Adapt, tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl").write_text(
        json.dumps({"question": "who?", "context": "he did", "answers": {"text": ["he"], "answer_start": [0]}}) + "\n"
    )
    shown = adapt("run", "--train-file", tmp_path / "qa.jsonl", "--help").output
    assert "--doc-stride" in shown
    assert "--threshold" not in shown
    (tmp_path / "broken.jsonl").write_bytes(b"\xff\xfe{")
    assert adapt("run", "--train-file", tmp_path / "broken.jsonl", "--help").exit_code == 0


def test_an_error_prints_the_command_that_completes_it_and_that_command_works(
    adapt: Adapt, reviews: Path, tiny_folder: Callable[..., Path]
) -> None:
    flags = ["--train-file", str(reviews), "--base", str(tiny_folder()), "--epochs", "1", "--strategy", "bitfit"]
    done = adapt("run", *flags)
    for text in (
        "columns opinion, verdict, who, state",
        "reviews.csv:26: verdict is empty; 2 of 26 rows can't be used",
    ):
        assert done.exit_code == 2
        error, hint = [line for line in done.stderr.splitlines() if line.startswith(("Error:", "try: "))]
        assert text in error
        words = shlex.split(hint.removeprefix("try: "))
        assert words[:2] == ["adapt", "run"]
        done = adapt(*words[1:])
    assert done.exit_code == 0, done.output
    assert words[-5:] == ["--text-column", "opinion", "--label-column", "verdict", "--skip-bad-rows"]


@pytest.mark.parametrize(("word", "meant"), [("train", "run"), ("help", "--help"), ("rm", "remove"), ("serv", "serve")])
def test_a_command_by_its_name_elsewhere_is_answered_with_ours(word: str, meant: str, adapt: Adapt) -> None:
    assert f"no command '{word}'; did you mean '{meant}'?" in adapt(word).stderr


def test_commands_by_their_names_elsewhere_exist() -> None:
    assert set(ALIASES.values()) - {"--help", "--version"} <= set(COMMANDS)
    assert not set(ALIASES) & set(COMMANDS)


def test_a_flag_of_another_strategy_is_told_apart_from_a_typo(adapt: Adapt) -> None:
    other, typo = adapt("run", "--top", "2"), adapt("run", "--epoch", "2")
    assert "strategy lora has no option --top; few-shot, layerwise have it: --strategy few-shot" in other.stderr
    assert "--epochs" in typo.stderr
    assert other.exit_code == typo.exit_code == 2


@pytest.fixture
def tiny_adapter(adapt: Adapt, tiny_folder: Callable[..., Path], small_csv: Path) -> Result:
    flags = ["--base", str(tiny_folder()), "--train-file", str(small_csv), "--epochs", "1", "--name", "tiny"]
    done = adapt("run", "--strategy", "bitfit", *flags)
    assert done.exit_code == 0, done.output
    return done


def test_a_run_prints_its_metrics_as_a_table_and_only_what_was_chosen(tiny_adapter: Result) -> None:
    table = tiny_adapter.stdout.splitlines()
    assert table[0].split()[:2] == ["metric", "validation"]
    assert table[1].split()[0] == "accuracy"
    assert "strategy   bitfit\n" in tiny_adapter.stderr
    assert max(map(len, table)) < 100


def test_a_file_that_exists_is_the_file(adapt: Adapt, tiny_adapter: Result, small_csv: Path) -> None:
    named = adapt("predict", "tiny", str(small_csv))
    assert named.stdout == adapt("predict", "tiny", "--file", str(small_csv)).stdout
    assert f"reading rows from {small_csv}" in named.stderr
    text = adapt("predict", "tiny", "--json", "--", str(small_csv))
    assert json.loads(text.stdout)[0]["text"] == str(small_csv)
    missing = adapt("predict", "tiny", "--json", "missing.csv")
    assert json.loads(missing.stdout)[0]["text"] == "missing.csv"
    assert "no file named 'missing.csv'" in missing.stderr
    both = adapt("predict", "tiny", str(small_csv), "a text")
    assert both.exit_code == 2
    assert "is a file, so 'a text' is one input too many" in both.stderr
    assert adapt("predict", "tiny", "-", input="a text\n").stdout == adapt("predict", "tiny", input="a text\n").stdout


def test_a_run_under_a_name_that_exists_says_what_it_replaces(
    adapt: Adapt, tiny_adapter: Result, tiny_folder: Callable[..., Path], small_csv: Path, tmp_path: Path
) -> None:
    before = json.loads(adapt("list", "--json").stdout)["tiny"]
    again = ["--base", str(tiny_folder()), "--epochs", "1", "--name", "tiny", "--strategy", "bitfit"]
    done = adapt("run", *again, "--train-file", str(small_csv), "--seed", "7")
    assert f"replaces   tiny@{before['version']}, accuracy " in done.stderr
    current = json.loads(adapt("list", "--json").stdout)["tiny"]["version"]
    staged = adapt("run", *again, "--train-file", str(small_csv), "--seed", "8", "--stage", "candidate")
    assert f"beside     tiny@{current}, accuracy " in staged.stderr
    assert "adapt predict tiny@candidate" in staged.stdout
    assert json.loads(adapt("list", "--json").stdout)["tiny"]["version"] == current
    assert adapt("tag", "tiny@candidate", "tried").stdout != f"tiny@tried is tiny@{current}\n"
    (tmp_path / "texts.txt").write_text("a line of text\nanother line of it\n" * 10)
    other = [*again, "--train-file", str(tmp_path / "texts.txt"), "--task", "fill-mask"]
    refused = adapt("run", *other)
    assert refused.exit_code == 2
    assert "'tiny' is an adapter for text-classification, and this run is for fill-mask" in refused.stderr
    assert "--overwrite" in refused.stderr.splitlines()[-1]
    assert len(json.loads(adapt("show", "tiny", "--json").stdout)["versions"]) == 3


def test_device_is_taken_where_answers_are_made_and_explained_where_accelerate_decides(
    adapt: Adapt, tiny_adapter: Result, small_csv: Path
) -> None:
    assert adapt("predict", "tiny", "x", "--device", "cpu").stdout == adapt("predict", "tiny", "x").stdout
    for command in (["predict", "tiny", "x"], ["eval", "tiny", "--test-file", str(small_csv)]):
        assert adapt(*command, "--device", "cpu").exit_code == 0
        refused = adapt(*command, "--device", "gpu9")
        assert refused.exit_code == 2
        assert "no device named 'gpu9'" in refused.stderr
    explained = adapt("run", "--device", "cpu")
    assert explained.exit_code == 2
    assert "ACCELERATE_USE_CPU=true" in explained.stderr


@pytest.mark.parametrize(
    ("words", "printed"),
    [([], 'adapt predict a "…"'), (["--registry", "my shop.json"], "adapt predict a \"…\" --registry 'my shop.json'")],
)
def test_the_next_command_names_the_registry_that_this_one_named(words: list[str], printed: str) -> None:
    @click.command()
    @registry_option()
    def command(registry: Path | None) -> None:
        click.echo(predict_command("a"))

    assert CliRunner().invoke(command, words, env={"ADAPT_REGISTRY": "other.json"}).output == printed + "\n"
