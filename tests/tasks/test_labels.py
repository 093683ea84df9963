"""Labels as people write them: with spaces, as lists in cells, joined, a column each, numbers with gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.errors import DataError, TaskError
from adapterkit.tasks import infer_task
from adapterkit.tasks.labels import MULTI, NUMBER, SINGLE, kind_of, label_text, listed, number_in

QUICK = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no", "head": "model"}


@pytest.fixture
def run(tiny_base: Base, registry: Registry, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that trains on cells of a label, two dozen times, and returns the report."""

    def train(cells: list[str], *, columns: str = "label", **flags: Any) -> Any:
        path = tmp_path / "train.csv"
        rows = [f"text {i},{cell}\n" for i, cell in enumerate(cells * (24 // len(cells)))]
        path.write_text(f"text,{columns}\n" + "".join(rows))
        return ak.run(base=tiny_base, registry=registry, watch=None, train_file=str(path), **{**QUICK, **flags})

    return train


def labels(report: Any) -> tuple[str, ...]:
    return tuple(report.adapter.task.labels)


def remark(report: Any, part: str) -> str:
    return next((text for text in report.remarks if part in text), "")


# ---- numbers of other countries, and labels that look alike


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["4,5", "3,25", "2"], NUMBER),
        (["0,5", "1,5"], NUMBER),
        (["-1,5", "2,0"], NUMBER),
        (["1,2", "3", "2,4"], SINGLE),  # may be lists
        (["1,2", "1,2,3"], SINGLE),
        (["1,234", "2,5"], SINGLE),  # may be 1234
        (["1,123.50", "20.00"], NUMBER),
        (["85 %", "7,5%"], NUMBER),
        (["100% cotton", "50%"], SINGLE),
    ],
)
def test_numbers_as_spreadsheets_of_other_countries_write_them(cells: list[str], kind: str) -> None:
    assert kind_of(cells) == kind


def test_decimal_commas_are_learned_and_evaluated_as_numbers(
    run: Any, tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    report = run(['"4,5"', '"3,25"', '"1,0"'])
    assert remark(report, "24 numbers in column 'label' with a decimal comma")
    assert [number_in(cell) for cell in ("4,5", "1,234", "7,5 %", "1,123.5", "a")] == [4.5, None, 7.5, 1123.5, None]
    (tmp_path / "commas.csv").write_text('text,label\ntext 1,"4,5"\ntext 2,"3,25"\n')
    (tmp_path / "points.csv").write_text("text,label\ntext 1,4.5\ntext 2,3.25\n")
    model = ak.load(report.name, registry=registry)
    first, second = (model.evaluate(str(tmp_path / f"{name}.csv")) for name in ("commas", "points"))
    assert first.metrics.values == second.metrics.values


def test_labels_of_the_same_letters_in_other_codes_are_named(run: Any) -> None:
    report = run(["caf\u00e9", "cafe\u0301", "\uff21\uff22", "AB", "x\u200by", "xy"])
    named = [
        text
        for text in report.remarks
        if "differ in case, hyphens, leading zeros, look-alike letters, spaces or invisible characters alone" in text
    ]
    assert len(named) == 3


def test_labels_joined_by_spaces_are_named_where_each_part_is_a_label(run: Any) -> None:
    assert "--label-separator ' '" in remark(
        run(["joy anger", "joy", "anger", "fear joy", "fear", "joy"]), "--label-separator"
    )
    assert not remark(run(["not spam", "spam", "very bad", "bad"]), "--label-separator")


# ---- spaces, case, spelling


@pytest.mark.slow
@pytest.mark.parametrize("space", [" ", "\t", "\u00a0", "  ", "\u200b", " \ufeff "])
def test_spaces_around_labels_are_no_part_of_them(space: str, run: Any) -> None:
    report = run(["pos", f"pos{space}", f"{space}neg", "neg"])
    assert labels(report) == ("neg", "pos")
    assert remark(report, "train.csv: spaces around 12 labels in column 'label' removed")


def test_labels_that_differ_in_case_or_spaces_within_are_named(run: Any) -> None:
    report = run(["Pos", "pos", "not ok", "not  ok"])
    assert labels(report) == ("Pos", "not  ok", "not ok", "pos")
    assert remark(report, "'Pos', 'pos'")
    assert remark(report, "'not  ok', 'not ok'")
    assert remark(run(["pos", "p\u200bos"], name="b"), "invisible characters alone: 'pos', ")


def test_rare_labels_are_named_and_compared_with_frequent_ones(run: Any) -> None:
    report = run(["billing"] * 20 + ["biling", "delivery", "refund", "refund"])
    assert remark(report, "label 'biling' (1) looks like 'billing' (20)")
    assert remark(report, "1 label of one row each: 'delivery'")
    numbered = run(["level 1"] * 23 + ["level 2"], name="b")
    assert not remark(numbered, "looks like")


def test_labels_that_are_tags_of_words_are_named(run: Any) -> None:
    assert "labels 'B-PER' and 'O' look like tags of words" in remark(run(["O", "B-PER"]), "tags of words")


def test_an_adapter_with_spaces_in_its_labels_is_still_evaluated_by_them() -> None:
    assert [label_text(text, ("0", "1.5")) for text in ("0.0", 0.0, "0.", "1.5", "0.50")] == [
        "0",
        "0",
        "0.",
        "1.5",
        "0.50",
    ]
    assert [label_text(text, ("pos ", "pos")) for text in ("pos ", "pos", " pos")] == ["pos ", "pos", "pos"]


# ---- several labels


LISTED = {
    "Python": ("['joy', 'anger']", ["joy", "anger"]),
    "JSON": ('["joy", "anger"]', ["joy", "anger"]),
    "numpy": ("['joy' 'anger']", ["joy", "anger"]),
    "array": ("array(['joy', 'anger'], dtype=object)", ["joy", "anger"]),
    "set": ("{'joy', 'anger'}", ["joy", "anger"]),
    "tuple": ("('joy',)", ["joy"]),
    "bare": ("[joy, anger]", ["joy", "anger"]),
    "quotes within": ('["it\'s", \'a "b"\']', ["it's", 'a "b"']),
    "numbers": ("[1, 20]", ["1", "20"]),
    "a tuple of numbers": ("(0, 1, 2)", ["0", "1", "2"]),
    "a number in brackets": ("(1)", None),
    "none": ("[]", []),
    "a word": ("joy", None),
    "a remark": ("(unclear)", None),
    "no list": ("[joy", None),
}


@pytest.mark.parametrize("form", LISTED)
def test_lists_written_as_texts_are_read(form: str) -> None:
    text, wanted = LISTED[form]
    assert listed(text) == wanted


def test_a_column_of_lists_as_texts_is_one_of_several_labels(run: Any) -> None:
    report = run(["\"['joy', 'anger']\"", "\"['anger']\"", '"[]"', "\"['joy' 'fear']\""])
    assert labels(report) == ("anger", "fear", "joy")
    assert report.adapter.task.problem_type == MULTI
    assert remark(report, "train.csv: 24 cells of column 'label' hold a list as text: read as several labels")
    with pytest.raises(DataError, match=r"train.csv:5: label is joy, but a list of labels was expected"):
        run(["\"['joy', 'anger']\"", "\"['anger']\"", '"[]"', "joy"], name="b")


def test_a_csv_and_the_lists_it_was_written_from_train_the_same(run: Any, tiny_base: Base, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(24)], "label": [["a", "b"], ["b"], ["c"]] * 8})
    frame.to_csv(tmp_path / "frame.csv", index=False)
    both = [
        ak.run(base=tiny_base, registry=tmp_path / "r.json", watch=None, name="a", **{**QUICK, **rows})
        for rows in ({"train": frame}, {"train_file": str(tmp_path / "frame.csv")})
    ]
    assert both[0].metrics == both[1].metrics
    assert labels(both[0]) == labels(both[1]) == ("a", "b", "c")


@pytest.mark.slow
@pytest.mark.parametrize(("separator", "cells"), [(",", '"a, b"'), ("|", "a|b"), (";", "a;b;"), ("; ", "a; b")])
def test_joined_labels_are_split_at_a_separator(separator: str, cells: str, run: Any) -> None:
    report = run([cells, "a", "b", ""], label_separator=separator)
    assert labels(report) == ("a", "b")
    assert remark(report, "6 empty cells of column 'label': read as no label")
    assert report.adapter.manifest["task"]["options"]["label_separator"] == separator


def test_labels_that_look_joined_are_named_with_the_option_that_splits_them(run: Any) -> None:
    report = run(["food|travel", "food", "travel", "food"])
    assert "label_separator" not in report.adapter.manifest["task"]["options"]  # earlier versions don't have it
    text = remark(report, "several joined by '|' ('food|travel')")
    assert text.endswith("--label-separator '|' reads each")
    assert not remark(run(["yes/no", "true", "and/or", "true"], name="b"), "joined by")


def test_a_column_for_each_label(run: Any, registry: Registry, adapt: Callable[..., Result], tmp_path: Path) -> None:
    cells = ["1,0,true", "0,0,False", "0,1.0,no", "1,1,yes"]
    report = run(cells, columns="toxic,obscene,threat", label_column_name="toxic,obscene,threat", name="a")
    assert labels(report) == ("toxic", "obscene", "threat")
    assert report.metrics["validation"].keys() >= {"f1_micro"}
    assert set(report.predict("text 3")["labels"]) <= set(labels(report))
    done = adapt("eval", "a", "--file", tmp_path / "train.csv", "--registry", registry.path, "--json")
    assert json.loads(done.stdout)["n"] == 24
    for odd, reason in (("-1", "threat is -1, but 0 or 1"), ("", "threat is empty, but 0"), ("0.7", "threat is 0.7")):
        with pytest.raises(DataError, match=rf"train.csv:5: {reason}"):
            run([*cells[:3], f"1,1,{odd}"], columns="toxic,obscene,threat", label_column_name="toxic,obscene,threat")


def test_lists_of_a_flag_for_each_label_need_their_names(run: Any) -> None:
    cells = ['"[0, 1, 0]"', '"[1, 1, 0]"', '"[0, 0, 1]"', '"[0, 0, 0]"']
    with pytest.raises(DataError, match="lists of 3 zeros and ones, one for each label; give --labels"):
        run(cells)
    named = run(cells, labels=("toxic", "obscene", "threat"))
    with_columns = run(
        [cell.strip('"[]').replace(" ", "") for cell in cells],
        columns="toxic,obscene,threat",
        label_column_name="toxic,obscene,threat",
        name="b",
    )
    assert named.metrics == with_columns.metrics
    assert labels(run(['"[0, 1]"', "[0]", "[1]", '"[1, 0]"'], name="c")) == ("0", "1")  # labels 0 and 1


def test_labels_joined_by_line_ends_are_named_and_split(run: Any) -> None:
    cells = ['"a\nb"', "a", "b", "b"]
    assert remark(run(cells), r"--label-separator '\n' reads each")
    assert labels(run(cells, label_separator=r"\n", name="b")) == ("a", "b")


def test_columns_of_0_and_1_are_suggested_as_labels(run: Any) -> None:
    with pytest.raises(DataError, match="toxic, threat hold 0 and 1") as caught:
        run(["0,1,0", "1,0,1"], columns="id,toxic,threat")
    assert caught.value.suggestion == ("--label-column", "toxic,threat")
    with pytest.raises(TaskError) as unnamed:
        infer_task({"id": 0, "remarks": "some words", "toxic": 1, "threat": 0})
    assert unnamed.value.suggestion == ("--text-column", "remarks", "--label-column", "toxic,threat")


def test_a_column_whose_name_has_a_comma_is_one_column(run: Any) -> None:
    assert labels(run(["x", "y"], columns='"a,b"', label_column_name="a,b")) == ("x", "y")


# ---- numbers


KINDS = {
    "words": (["a", "b"], SINGLE),
    "whole numbers": ([1, 2, 3], SINGLE),
    "fractions": ([0.5, 1.0], NUMBER),
    "fractions as texts": (["0.5", "1.0", "2"], NUMBER),
    "a gap": ([0.5, None, 1.5], NUMBER),
    "a gap as pandas writes it": ([0.5, float("nan"), 1.5], NUMBER),
    "infinity": ([0.5, float("inf"), 1.5], NUMBER),
    "words among many numbers": ([*(str(i / 8) for i in range(40)), "n/a"], NUMBER),
    "a number among words": (["a", "b", "1.5"], SINGLE),
    "lists": ([["a"], []], MULTI),
    "lists as texts": (["['a']", "['b']", "c"], MULTI),
    "one list as text": (["['a']", "b", "c", "d"], SINGLE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_column_of_labels(kind: str) -> None:
    cells, wanted = KINDS[kind]
    assert kind_of(cells) == wanted


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("n/a", "label is 'n/a', but a number was expected"),
        ("inf", "label is 'inf', but a number was expected"),
        ("NaN", "label is 'NaN', but a number was expected"),
        ("-Infinity", "label is '-Infinity', but a number was expected"),
        ("", "label is empty"),
    ],
)
def test_what_is_no_number_among_numbers_is_refused_with_its_line(odd: str, reason: str, run: Any) -> None:
    scores = [f"{i / 8}" for i in range(24)]
    with pytest.raises(DataError, match=rf"train.csv:13: {reason}"):
        run([*scores[:11], odd, *scores[12:]])
    report = run([*scores[:11], odd, *scores[12:]], skip_bad_rows=True)
    assert report.adapter.task.problem_type == NUMBER
    assert remark(report, reason)


@pytest.mark.parametrize("missing", ["NaN", "null"])
def test_a_gap_among_whole_numbers_is_empty_and_makes_no_fractions(
    missing: str, tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    rows = [f'{{"text": "t{i}", "label": {i % 2 if i != 5 else missing}}}' for i in range(24)]
    path.write_text(f"[{','.join(rows)}]")
    flags = {**QUICK, "train_file": str(path)}
    with pytest.raises(DataError, match=r"a.json:6: label is empty"):
        ak.run(base=tiny_base, registry=registry, watch=None, **flags)
    report = ak.run(base=tiny_base, registry=registry, watch=None, skip_bad_rows=True, **flags)
    assert labels(report) == ("0", "1")


def test_numbers_that_look_like_ids_or_classes_are_named(run: Any) -> None:
    assert remark(run([f"{i}.0" for i in range(24)]), "24 different whole numbers in column 'label', one a row")
    assert remark(run(["1.0", "2.0"], name="b"), "--problem-type single_label_classification reads them as classes")
    assert remark(run([f"user-{i}" for i in range(24)], name="c"), "24 different labels in 24 rows")


# ---- labels of the complete file


def test_labels_are_those_of_the_file_before_a_sample_is_drawn(run: Any) -> None:
    report = run([*["pos", "neg"] * 11, "rare", "odd"], max_train_samples=6)
    assert labels(report) == ("neg", "odd", "pos", "rare")
    assert report.metrics["validation"]["n"] + report.adapter.manifest["data"]["splits"]["train"]["rows"] == 6


# ---- texts that are lists or numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "text", "named"),
    [
        (["Terrible", "room"], "Terrible room", "24 lists in column 'text': joined by spaces"),
        (["One sentence.", "Another one."], "One sentence. Another one.", "24 lists in column 'text'"),
        (5, "5", "24 numbers in column 'text': read as texts"),
        (2.5, "2.5", "24 numbers in column 'text': read as texts"),
    ],
)
def test_lists_and_numbers_are_read_as_texts_and_counted(
    value: Any, text: str, named: str, tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    reports = []
    for name, of_text in (("a", value), ("b", text)):
        path = tmp_path / f"{name}.jsonl"
        rows = [json.dumps({"text": of_text, "label": "pn"[i % 2]}) for i in range(24)]
        path.write_text("\n".join(rows))
        flags = {**QUICK, "train_file": str(path), "name": name}
        reports.append(ak.run(base=tiny_base, registry=registry, watch=None, **flags))
    assert remark(reports[0], named)
    assert not remark(reports[1], named)
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].predict([{"text": value}]) == reports[0].predict([text])


@pytest.mark.parametrize("odd", [{"role": "user", "content": "hi"}, ["a", ["b"]], [{"type": "text", "text": "x"}]])
def test_other_values_are_refused_with_their_line_in_training_and_evaluation(
    odd: Any, tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": odd, "label": "pn"[i % 2]}) for i in range(24)))
    flags = {**QUICK, "train_file": str(path), "task": "text-classification"}
    with pytest.raises(DataError, match=r"a.jsonl:1: text "):
        ak.run(base=tiny_base, registry=registry, watch=None, **flags)
    rows = [{"text": odd, "label": "pn"[i % 2]} for i in range(24)]
    with pytest.raises(DataError, match=r"memory:train:1: text "):
        ak.run(base=tiny_base, registry=registry, watch=None, train=rows, **QUICK, task="text-classification")


def test_an_error_about_labels_has_what_was_left_out(tiny_base: Base, registry: Registry) -> None:
    rows = [{"text": f"text {i}", "label": "a", "answer": ["accept", "reject"][i % 2]} for i in range(6)]
    with pytest.raises(DataError, match=r"have the label 'a'.*\(.*3 'reject' in column 'answer'"):
        ak.run(base=tiny_base, registry=registry, watch=None, train=rows, **QUICK)
