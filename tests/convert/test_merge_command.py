"""adapt merge: models written, combinations registered, mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from tests.helpers import tolerance
from tests.helpers.cli import Adapt


@pytest.fixture
def trained(adapt: Adapt, small_csv: Path, tiny_folder: Callable[..., Path]) -> None:
    """Train adapters named a, b and full, and one on another base."""
    for name, strategy, seed in (("a", "lora", 0), ("b", "lora", 1), ("full", "full", 0), ("far", "lora", 7)):
        base = tiny_folder("bert", 1) if name == "far" else tiny_folder()
        flags = ["--base", base, "--train-file", small_csv, "--epochs", 1, "--seed", seed, "--name", name]
        done = adapt("run", "--strategy", strategy, *flags)
        assert done.exit_code == 0, done.output


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_merge_writes_models_and_registers_sums_that_every_command_knows(
    adapt: Adapt, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    texts = ["lovely food", "a dull film"]
    for name in ("a", "full"):
        done = adapt("merge", name, "--out", f"{name}-model")
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) == 1
        loading = f'transformers.AutoModelForSequenceClassification.from_pretrained("{name}-model")'
        assert loading in done.stdout
        theirs = transformers.pipeline("text-classification", model=str(tmp_path / f"{name}-model"))(texts)
        ours = json.loads(adapt("predict", name, *texts, "--json").stdout)
        assert [a["label"] for a in ours] == [a["label"] for a in theirs]
        assert [a["score"] for a in ours] == pytest.approx([a["score"] for a in theirs], abs=tolerance.TINY)

    done = adapt("merge", "a:0.7", "b:0.3", "--name", "ab")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("saved      store/ab/")
    assert 'adapt predict ab "…"' in done.stdout
    both = ["merge", "a:0.7", "b:0.3", "--name", "ab", "--combination-type", "svd", "--rank", 3, "--out", "deep/both"]
    report = json.loads(adapt(*both, "--json").stdout)
    assert (report["name"], report["out"], report["task"]) == ("ab", "deep/both", "text-classification")
    assert (tmp_path / report["folder"] / "README.md").read_text().count("| 0.7 |") == 1

    listed = adapt("list")
    assert listed.exit_code == 0, listed.output
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", "a", "ab", "b", "far", "full"]
    shown = adapt("show", "ab")
    assert shown.exit_code == 0, shown.output
    assert "version 2 of 2" in shown.stdout
    manifest = json.loads(adapt("show", "ab", "--json").stdout)
    assert [(p["name"], p["weight"]) for p in manifest["merged_from"]] == [("a", 0.7), ("b", 0.3)]
    assert manifest["strategy"]["options"] == {"r": 3, "lora_alpha": 3}
    assert adapt("registry", "rebuild").exit_code == 0

    ours = json.loads(adapt("predict", "ab", *texts, "--json").stdout)
    theirs = transformers.pipeline("text-classification", model=str(tmp_path / "deep" / "both"))(texts)
    assert [a["score"] for a in ours] == pytest.approx([a["score"] for a in theirs], abs=tolerance.TINY)
    measured = json.loads(adapt("eval", "ab", "--test-file", small_csv, "--json").stdout)
    assert measured["n"] == 24

    assert adapt("merge", "a", "b", "--out", "sum").exit_code == 0
    alone = json.loads(adapt("merge", "a:0.5", "--out", "half", "--json").stdout)
    assert alone["auto_class"] == "AutoModelForSequenceClassification"
    shutil.copytree(tiny_folder(), tmp_path / "moved")
    assert adapt("merge", "b", "ab", "--name", "more", "--base", "moved").exit_code == 0


MISTAKES = {
    "no name": (["merge"], "Missing argument 'NAME[:WEIGHT]...'"),
    "nowhere": (["merge", "a", "b"], "no destination; expected --out DIR for a model, --name NAME for an adapter, or"),
    "nowhere alone": (["merge", "a"], "no destination"),
    "weight": (["merge", "a:much", "b", "--name", "ab"], "'a:much': weight 'much' is not a number; expected"),
    "no weight": (["merge", "a:", "b", "--name", "ab"], "'a:': weight '' is not a number"),
    "nan": (["merge", "a:nan", "b", "--name", "ab"], "'a:nan': weight 'nan' is not a number"),
    "adapter": (["merge", "a", "bb", "--name", "ab"], "no adapter named 'bb'; did you mean 'b'? registered: a, b"),
    "version": (["merge", "a@zz:0.5", "b", "--name", "ab"], "no version of a named 'zz'"),
    "name": (["merge", "a", "b", "--name", "a/b"], "'a/b' is no adapter's name"),
    "type": (["merge", "a", "b", "--name", "ab", "--combination-type", "ties"], "'ties' is not one of 'cat', 'linear'"),
    "rank": (["merge", "a", "b", "--name", "ab", "--rank", "4"], "rank=4 is for combination type svd"),
    "full": (["merge", "a", "full", "--name", "ab"], "has a patch of kind 'replace' at 'embeddings.word_embeddings'"),
    "half of full": (["merge", "full:0.5", "--out", "half"], "has a patch of kind 'replace' at"),
    "base": (["merge", "a", "far", "--name", "ab"], "the adapter was trained on base"),
    "folder": (["merge", "a", "--out", "store"], "'store' is there already and holds a, b, far, full; give one that"),
    "file": (["merge", "a", "--out", "rows.csv"], "'rows.csv' can't be a folder for the model: Not a directory"),
    "both": (["merge", "a", "b", "--name", "ab", "--out", "store"], "'store' is there already"),
    "moved": (["merge", "a", "--out", "model", "--base", "./nowhere"], "no folder './nowhere'"),
}


@pytest.mark.usefixtures("trained")
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(adapt: Adapt, tmp_path: Path) -> None:
    before = files(tmp_path)
    for args, message in MISTAKES.values():
        done = adapt(*args)
        assert done.exit_code == 2, (args, done.output)
        assert message in done.stderr
        assert len([line for line in done.stderr.splitlines() if "rror" in line]) == 1
    assert files(tmp_path) == before


def files(folder: Path) -> dict[str, int]:
    """Return the files below a folder, and when each was written."""
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}
