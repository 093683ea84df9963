"""A file that isn't there is an error before anything slow is imported, in every command that trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import Adapt

CODE = """
import sys
from adapterkit.cli import main
try:
    main(sys.argv[1:], prog_name="adapt")
finally:
    print(*sorted({"torch", "transformers", "datasets"} & set(sys.modules)), file=sys.stdout)
"""


def test_nothing_slow_is_imported(small_csv: Path) -> None:
    command = ["run", "--train-file", "row.csv", "--num-processes", "2"]
    done = subprocess.run([sys.executable, "-c", CODE, *command], cwd=small_csv.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (2, "")
    assert done.stderr == "Error: no file 'row.csv'; '.' holds rows.csv\n"


@pytest.mark.parametrize("command", [["run"], ["plan"], ["tune", "--search", "learning_rate=1e-3,1e-4"]])
@pytest.mark.parametrize("flag", ["--train-file", "--validation-file", "--test-file", "--dataset"])
def test_it_is_named_with_those_that_are_there(command: list[str], flag: str, adapt: Adapt, small_csv: Path) -> None:
    train = [] if flag in ("--train-file", "--dataset") else ["--train-file", "rows.csv"]
    done = adapt(*command, *train, flag, "gone.csv")
    assert done.exit_code == 2
    assert done.stderr == "Error: no file 'gone.csv'; '.' holds rows.csv\n"
    assert [p.name for p in small_csv.parent.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run", "rows.csv"], "'rows.csv' was not expected; to train on its rows, give --train-file rows.csv"),
        (["run", "."], "'.' was not expected; for a data set, give --dataset ."),
        (
            ["plan", "demo:sentiment"],
            "Got unexpected extra argument (demo:sentiment); for a data set, give --dataset demo:sentiment",
        ),
        (["run", "lora"], "'lora' was not expected; to train with that strategy, give --strategy lora"),
        (
            ["run", "run.yaml"],
            "'run.yaml' was not expected; to read options from it, give --config run.yaml",
        ),
        (
            ["run", "gone.csv"],
            "'gone.csv' was not expected; flags of the launcher follow after --, with --num-processes",
        ),
        (
            ["eval", "x", "rows.csv"],
            "Got unexpected extra argument (rows.csv); to read a file, give --test-file rows.csv",
        ),
        (["eval", "x", "gone.csv"], "Got unexpected extra argument (gone.csv)"),
        (["show", "x", "rows.csv"], "Got unexpected extra argument (rows.csv)"),
        (
            ["serve", "x"],
            "Got unexpected extra argument (x); every adapter of the registry is served, each at /models/NAME",
        ),
    ],
)
def test_a_file_without_its_flag_is_an_error_that_names_the_flag(
    command: list[str], message: str, adapt: Adapt, small_csv: Path
) -> None:
    (small_csv.parent / "run.yaml").touch()
    done = adapt(*command)
    assert (done.exit_code, done.stderr) == (2, f"Error: {message}\n")
