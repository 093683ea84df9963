"""Rows that aren't as they should be: skipped and counted by a run, with a reason in their place by predict."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Pool, Registry
from adapterkit.errors import DataError, OptionError
from tests.helpers import tolerance

Adapt = Callable[..., Result]
QUICK = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no", "head": "model"}


def rows(*more: tuple[str, str]) -> str:
    """Return two dozen good rows of text and label, and more, as a csv."""
    good = [(f"a {word} film {i}", label) for i in range(6) for word, label in (("fine", "pos"), ("dull", "neg"))]
    return "".join(f"{text},{label}\n" for text, label in (("text", "label"), *good, *more))


@pytest.fixture
def trained(tiny_base: Base, registry: Registry, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that trains on a text of a file, in a registry."""

    def train(content: str, *, end: str = "csv", name: str = "a", **flags: Any) -> Any:
        path = tmp_path / f"train.{end}"
        path.write_text(content)
        options = {**QUICK, "train_file": str(path), "name": name, **flags}
        return ak.run(base=tiny_base, registry=registry, watch=None, **options)

    return train


def test_a_run_skips_what_readers_and_the_task_refuse_and_counts_it_by_reason(trained: Callable[..., Any]) -> None:
    bad = rows((" ", "pos"), ("so so", ""), ("", "neg"), ("one", "two,three"))
    with pytest.raises(DataError, match=r"train.csv:1[4-7]: "):
        trained(bad)
    report = trained(bad, skip_bad_rows=True)
    assert report.adapter.manifest["data"]["splits"]["train"]["rows"] + report.metrics["validation"]["n"] == 12
    (of_reader,) = [r for r in report.remarks if "3 cells, but the header has 2 columns" in r]
    (of_task,) = [r for r in report.remarks if "is empty" in r]
    assert "1 bad row skipped" in of_reader
    assert of_task.endswith("text is empty (2, first at line 14); label is empty (1, at line 15)")


@pytest.mark.parametrize(
    ("task", "content", "reason"),
    [
        ("token-classification", '{"tokens": ["a", "b"], "ner_tags": ["O"]}', "2 words, but 1 tags"),
        ("multiple-choice", '{"context": "", "endings": ["a", "b"], "label": 0}', "context is empty"),
        (
            "question-answering",
            '{"question": " ", "context": "c", "answers": {"text": [], "answer_start": []}}',
            "is e",
        ),
    ],
)
def test_every_task_has_its_bad_rows_skipped(
    task: str, content: str, reason: str, trained: Callable[..., Any], tmp_path: Path
) -> None:
    good = {
        "token-classification": {"tokens": ["Ann", "ran"], "ner_tags": ["B-PER", "O"]},
        "multiple-choice": {"context": "it rains", "endings": ["wet", "dry"], "label": 0},
        "question-answering": {"question": "who", "context": "Ann", "answers": {"text": ["Ann"], "answer_start": [0]}},
    }[task]
    lines = [json.dumps(good)] * 20
    content = "\n".join([*lines[:7], content, *lines[7:]])
    with pytest.raises(DataError, match=reason):
        trained(content, end="jsonl", task=task)
    report = trained(content, end="jsonl", task=task, skip_bad_rows=True)
    assert [r for r in report.remarks if "1 bad row skipped" in r and "at line 8" in r and reason in r]


def test_a_file_of_bad_rows_alone_is_an_error(trained: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"no row of .*train.csv can be used: 2 bad rows skipped"):
        trained("text,label\n,pos\n,neg\n", skip_bad_rows=True)


def test_an_evaluation_of_the_runs_own_rows_skips_the_same(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt
) -> None:
    report = trained(rows(("", "pos"), ("x", ""), ("y", "neg")), skip_bad_rows=True, max_train_samples=12)
    done = adapt("eval", "a", "--split", "validation", "--registry", registry.path, "--json")
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)
    assert (measured["n"], measured["accuracy"]) == (
        report.metrics["validation"]["n"],
        report.metrics["validation"]["accuracy"],
    )


def test_labels_of_validation_alone_are_counted_and_are_errors(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out.csv"
    held_out.write_text(rows(("odd", "mixed"), ("very odd", "mixed"), ("other", "unsure")))
    report = trained(rows(), validation_file=str(held_out))
    measured = report.metrics["validation"]
    assert measured["n"] == 15
    assert measured["accuracy"] == pytest.approx(round(measured["accuracy"] * 15) / 15)
    assert measured["accuracy"] <= 12 / 15
    note = "3 rows have labels that no training row has, and count as errors; --labels adds labels: 'mixed' (2), "
    note = f"held-out.csv: {note}'unsure' (1)"
    assert [remark for remark in report.remarks if remark.endswith(note)]
    done = adapt("eval", "a", "--file", held_out, "--registry", registry.path, "--json")
    assert json.loads(done.stdout)["n"] == 15
    assert note in done.stderr
    held_out.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"held-out.csv:2: no label named 'x'"):
        trained(rows(), validation_file=str(held_out))


def test_a_tag_of_validation_alone_is_counted_and_is_an_error(trained: Callable[..., Any], tmp_path: Path) -> None:
    held_out = tmp_path / "dev.conll"
    held_out.write_text("Ann B-PER\nran O\n\nRome B-LOC\nfell O\n\n")
    report = trained("Ann B-PER\nran O\n\n" * 8, end="conll", validation_file=str(held_out))
    assert report.metrics["validation"]["n"] == 2
    assert report.metrics["validation"]["recall"] <= 0.5
    assert [remark for remark in report.remarks if "1 row has a label that no training row" in remark]
    named = trained("Ann B-PER\nran O\n\n" * 8, end="conll", validation_file=str(held_out), labels="B-LOC,B-PER,O")
    assert named.adapter.task.labels == ("B-LOC", "B-PER", "O")
    assert not [remark for remark in named.remarks if "no training row" in remark]


BAD = {
    "jsonl": '{"id": 1, "text": "fine"}\n{"id": 2, "text": null}\nnonsense\n{"id": 4, "text": {"a": "b"}}\n',
    "csv": 'id,text\n1,fine\n2," "\n3,dull,more\n4,dull\n',
    "txt": "fine\n\n\ndull\n",
}


@pytest.mark.parametrize("end", BAD)
def test_each_row_has_its_answer_or_the_reason_in_its_place(
    end: str, trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    trained(rows())
    path = tmp_path / f"rows.{end}"
    path.write_text(BAD[end])
    stops = adapt("predict", "a", path, "--registry", registry.path)
    assert (stops.exit_code, stops.stdout) == (2, "")
    done = adapt("predict", "a", path, "--skip-bad-rows", "--registry", registry.path, "--json")
    answers = json.loads(done.stdout)
    assert len(answers) == 4
    assert answers[0]["label"] in ("pos", "neg")
    assert answers[1]["error"] == "text is empty"
    assert "label" not in answers[1]
    count = sum("error" in answer for answer in answers)
    assert f"{count} rows have no answer, first {path}:" in done.stderr
    streamed = adapt(
        *("predict", "a", "-", "--skip-bad-rows", "--input-format", end, "--registry", registry.path, "--json"),
        input=BAD[end],
    )
    assert ["error" in answer for answer in json.loads(streamed.stdout)] == ["error" in answer for answer in answers]


def test_one_empty_cell_of_a_thousand_rows_stops_nothing(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    trained(rows())
    lines = [f"a fine film {i}" if i != 400 else "" for i in range(1000)]
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text("text\n" + "".join(f'"{line}"\n' for line in lines))
    done = adapt("predict", "a", path, "--skip-bad-rows", "--out", out, "--registry", registry.path)
    assert f"written    {out}: 1,000 rows" in done.stderr
    written = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["text"] for row in written] == lines
    assert [i for i, row in enumerate(written) if row["error"]] == [400]
    assert all(row["label"] for i, row in enumerate(written) if i != 400)


def test_with_several_adapters_each_has_its_answer_or_reason(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    trained(rows())
    trained("one,two,label\n" + "a,b,x\nc,d,y\n" * 6, name="b", text_column_name="one,two")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine", "one": "a", "two": "b"}\n{"text": "", "one": "a", "two": ""}\nx\n')
    call = ("predict", "a,b", path, "--skip-bad-rows", "--registry", registry.path)
    first, second, third = json.loads(adapt(*call, "--json").stdout)
    assert (set(first["a"]), set(first["b"])) == ({"label", "score"}, {"label", "score"})
    assert second["a"] == {"error": "text is empty"}
    assert set(second["b"]) == {"label", "score"}  # half of a pair may be empty
    assert set(third["a"]) == set(third["b"]) == {"error"}
    table = list(csv.DictReader(io.StringIO(adapt(*call, "--format", "csv").stdout)))
    assert table[1]["a"] == "error: text is empty"


def test_rows_that_name_their_adapter_may_name_none(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    trained(rows())
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine", "adapter": "a"}\n{"text": "b", "adapter": "c"}\n{"text": "d", "adapter": null}\n')
    done = adapt("predict", "--file", path, "--skip-bad-rows", "--registry", registry.path, "--json")
    answers = json.loads(done.stdout)
    assert answers[0]["label"] in ("pos", "neg")
    assert "no adapter named 'c'" in answers[1]["error"]
    assert answers[2]["error"] == "adapter is empty"


def test_an_empty_text_is_refused_alike_in_files_and_in_python(
    trained: Callable[..., Any], tiny_base: Base, registry: Registry, adapt: Adapt
) -> None:
    report = trained(rows())
    with Pool(tiny_base, registry=registry) as pool:
        for empty in ("", " \t", "\u00a0", "\u200b", "\ufeff \u2060\ufe0f", "\u3164"):
            for ask in (report.predict, pool.predict):
                with pytest.raises(DataError, match="row 2: text is empty"):
                    ask(["fine", empty])
                with pytest.raises(DataError, match="row 1: text is empty"):
                    ask([{"text": empty}])
            shown = adapt("predict", "a", "--registry", registry.path, "--", empty).stderr
            assert "text 1: text is empty" in shown


def test_half_of_a_pair_may_be_empty_and_is_counted(trained: Callable[..., Any]) -> None:
    content = "subject,body,label\n" + "no heat,please help,x\nhello,,y\n,thank you,y\n" * 5
    report = trained(content, text_column_name="subject,body")
    assert [r for r in report.remarks if "5 rows have nothing in column 'body'" in r]
    assert report.predict([{"subject": "hello", "body": None}]) == report.predict(["hello\t"])
    with pytest.raises(DataError, match=r"train.csv:17: subject and body are empty"):
        trained(content + ",,x\n", text_column_name="subject,body")
    with pytest.raises(DataError, match="row 1: subject and body are empty"):
        report.predict([{"subject": "", "body": None}])


@pytest.mark.parametrize("values", [{"text": 5}, {"text": ["a", "fine", "film"]}, {"text": 7.0}])
def test_rows_in_memory_are_read_as_those_of_files(
    values: dict[str, Any], trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    report = trained(rows())
    (tmp_path / "one.jsonl").write_text(json.dumps(values))
    of_file = json.loads(adapt("predict", "a", tmp_path / "one.jsonl", "--registry", registry.path, "--json").stdout)
    text = " ".join(values["text"]) if isinstance(values["text"], list) else f"{values['text']:.0f}"
    for answer in (report.predict([values])[0], report.predict(text)):
        assert answer["label"] == of_file[0]["label"]
        assert answer["score"] == pytest.approx(of_file[0]["score"], abs=tolerance.TINY)


@pytest.mark.parametrize("odd", [{"a": 1}, ["a", 3], [["a"]], object(), "half \ud800 a pair"])
def test_other_values_are_refused_in_python_without_a_traceback(odd: Any, trained: Callable[..., Any]) -> None:
    report = trained(rows())
    with pytest.raises(DataError, match="row 1: text "):
        report.predict([{"text": odd}])


def test_rows_are_never_replaced_by_their_answers(
    trained: Callable[..., Any], registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    trained(rows())
    path = tmp_path / "rows.csv"
    path.write_text("text\nfine\n")
    for out in (path, tmp_path / "." / "rows.csv"):
        done = adapt("predict", "a", path, "--out", out, "--registry", registry.path)
        assert (done.exit_code, path.read_text()) == (2, "text\nfine\n")
        assert "is the file of rows, which it would replace" in done.stderr


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "two columns of a name": lambda: pd.DataFrame([["a", "x", "y"]] * 12, columns=["text", "label", "label"]),
    "half a surrogate pair": lambda: pd.DataFrame(
        {"text": [*["a"] * 11, "\ud800"], "label": ["x", "y"] * 6}, dtype=object
    ),
    "bytes": lambda: pd.DataFrame({"text": [b"a"] * 12, "label": ["x", "y"] * 6}),
    "a list among texts": lambda: pd.DataFrame({"text": [*["a"] * 11, ["b"]], "label": ["x", "y"] * 6}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_data_frame_that_cant_be_read_is_a_line(kind: str, tiny_base: Base, registry: Registry) -> None:
    with pytest.raises(DataError) as caught:
        ak.run(base=tiny_base, registry=registry, watch=None, train=FRAMES[kind](), **QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, "8", 2.5])
def test_a_batch_size_is_a_positive_integer(size: Any, trained: Callable[..., Any]) -> None:
    report = trained(rows())
    with pytest.raises(OptionError, match="batch_size must be an integer >= 1"):
        report.predict(["a"], batch_size=size)


def test_decimals_are_numbers(tiny_base: Base, registry: Registry) -> None:
    scores = [{"text": f"text {i}", "label": Decimal(i) / 4} for i in range(24)]
    report = ak.run(base=tiny_base, registry=registry, watch=None, train=scores, **QUICK)
    assert report.adapter.task.problem_type == "regression"
