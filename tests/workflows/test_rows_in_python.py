"""Prediction in Python: bad rows have their errors in their places, and texts that are cut are a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Pool, Registry
from adapterkit.errors import DataError, TruncationWarning
from adapterkit.evaluation.row_errors import by_halves
from adapterkit.workflows.run import Report

TRAIN = [
    {"text": f"a {word} film {i}", "label": label} for i in range(6) for word, label in (("fine", "p"), ("dull", "n"))
]
LONG = "a long and very dull film " * 20


@pytest.fixture
def report(tiny_base: Base, registry: Registry) -> Report:
    """Return the report of a classifier that reads 16 tokens."""
    options = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no", "head": "model", "max_seq_length": 16}
    return ak.run(base=tiny_base, registry=registry, watch=None, train=TRAIN, name="a", **options)


def test_each_row_has_its_answer_or_its_error(report: Report, tiny_base: Base, registry: Registry) -> None:
    rows = ["a fine film", "", {"text": None}, {"label": 3}, 5, {"text": {"a": 1}}, {"text": "a dull film"}]
    with pytest.raises(DataError, match="row 5: a text or a dict was expected"):
        report.predict(rows)
    answers = report.predict(rows, skip_bad_rows=True)
    assert [answer.get("error") for answer in answers] == [
        None,
        "text is empty",
        "text is empty",
        "has no 'text'; it has label",
        "a text or a dict was expected, got int '5'",
        "text is {'a': 1}, but a text was expected",
        None,
    ]
    good = report.predict(["a fine film", "a dull film"])
    assert [answers[0], answers[-1]] == good
    model = ak.load("a", registry=registry, base=tiny_base)
    assert model.predict(rows, skip_bad_rows=True) == answers
    assert ak.predict(tiny_base, report.adapter, rows, skip_bad_rows=True) == answers


def test_frames_single_rows_and_rows_of_which_all_are_bad(report: Report) -> None:
    frame = pd.DataFrame({"text": ["a fine film", None, "  "], "id": [1, 2, 3]})
    first, *others = report.predict(frame, skip_bad_rows=True)
    assert set(first) == {"label", "score"}
    assert others == [{"error": "text is empty"}] * 2
    assert report.predict("", skip_bad_rows=True) == {"error": "text is empty"}
    assert report.predict(["", " "], skip_bad_rows=True) == [{"error": "text is empty"}] * 2
    assert report.predict([], skip_bad_rows=True) == []


def test_a_row_that_only_the_model_refuses_is_found_by_halves() -> None:
    calls = []

    def answer(rows: list[int]) -> list[int]:
        calls.append(len(rows))
        if bad := [row for row in rows if row in (3, 8)]:
            raise DataError(f"{bad[0]} is too long")
        return [10 * row for row in rows]

    results = by_halves(list(range(10)), answer)
    assert [str(r) if isinstance(r, DataError) else r for r in results] == [
        *(0, 10, 20, "3 is too long", 40, 50, 60, 70, "8 is too long", 90)
    ]
    assert calls[0] == 10
    assert by_halves([], answer) == []


def test_a_prompt_that_leaves_no_room_is_an_error_in_its_place(
    tiny_folder: Callable[..., Path], registry: Registry, adapt: Callable[..., Result], tmp_path: Path
) -> None:
    base = Base.load(str(tiny_folder("gpt2")))
    train = [{"text": f"the king is here {i} times"} for i in range(12)]
    options = {
        "task": "text-generation",
        "strategy": "lora",
        "epochs": 1,
        "mixed_precision": "no",
        "block_size": 16,
        "max_new_tokens": 8,
    }
    report = ak.run(base=base, registry=registry, watch=None, train=train, name="g", **options)
    rows = ["the king", "the king " * 500, "a queen"]
    with pytest.raises(DataError, match="exceeds the"):
        report.predict(rows)
    first, second, third = report.predict(rows, skip_bad_rows=True)
    assert "generated_text" in first
    assert "generated_text" in third
    assert "exceeds the" in second["error"]
    (tmp_path / "rows.txt").write_text("\n".join(rows))
    call = ("predict", "g", "--file", tmp_path / "rows.txt", "--base", base.name, "--registry", registry.path)
    stopped = adapt(*call)
    assert "try: adapt predict" in stopped.stderr
    assert "--skip-bad-rows" in stopped.stderr
    done = adapt(*call, "--skip-bad-rows", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert "1 row has no answer" in done.stderr


def test_the_error_of_a_row_completes_the_command(
    report: Report, tiny_base: Base, registry: Registry, adapt: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text\na fine film\n \n")
    stopped = adapt("predict", "a", tmp_path / "rows.csv", "--registry", registry.path)
    assert stopped.stderr.splitlines()[-1].endswith(f"--registry {registry.path} --skip-bad-rows")
    typed = adapt("predict", "a", "--registry", registry.path, "--", " ")
    assert "skip-bad-rows" not in typed.stderr


def test_texts_that_are_cut_are_a_warning_at_the_call_or_a_note(report: Report) -> None:
    with pytest.warns(TruncationWarning, match="2 of 3 texts are longer than 16 tokens and were cut") as caught:
        report.predict([LONG, "short", LONG])
    assert [warning.filename for warning in caught] == [__file__]
    notes = []

    class Notes(ak.Watch):
        def note(self, topic: str, text: str) -> None:
            notes.append((topic, text))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.predict(["short", "a film"])
        report.predict([LONG, "a film"], watch=Notes())
    assert notes == [("warning", "1 of 2 texts are longer than 16 tokens and were cut")]


def test_a_text_of_just_as_many_tokens_as_are_read_is_not_cut(report: Report, tiny_base: Base) -> None:
    exact = next(text for n in range(30) if len(tiny_base.tokenizer(text := "a " * n)["input_ids"]) == 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.predict([exact])
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        report.predict([exact, exact + " a"])


def test_a_pool_warns_once_of_each_adapter(report: Report, tiny_base: Base, registry: Registry) -> None:
    with Pool(tiny_base, registry=registry) as pool:
        with pytest.warns(
            TruncationWarning, match="adapter 'a.*': 1 of 2 texts are longer than 16 tokens and"
        ) as caught:
            pool.predict(["short", LONG])
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool.predict(["short", LONG])
