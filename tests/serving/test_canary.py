"""Labels that come back, candidates that read the same rows, and the paired test that promotes one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from adapterkit import Base, Pool, Registry
from adapterkit.errors import OptionError, RegistryError
from adapterkit.serving.canary import Canaries, Canary, Comparison, exact_p, promote, read_report, report_path
from adapterkit.serving.request_log import RequestLog
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes
from tests.helpers.pooled import add, same
from tests.helpers.server import ROWS, Running

TEXTS = [f"{a} {b}" for a in ("a fine", "an awful", "a dull", "so", "great") for b in ("film", "staff", "food", "bar")]


@pytest.mark.parametrize("only_first", [0, 1, 3, 8, 25, 400])
@pytest.mark.parametrize("only_second", [0, 1, 5, 12, 30, 333])
def test_the_exact_test_is_scipys(only_first: int, only_second: int) -> None:
    total = only_first + only_second
    expected = binomtest(only_first, total).pvalue if total else 1.0
    assert exact_p(only_first, only_second) == pytest.approx(expected, rel=1e-9)


@pytest.fixture
def versions(tmp_path: Path, tiny_base: Base) -> tuple[Registry, Base, str, str]:
    """An adapter with an old version, which is current, and a candidate."""
    registry = Registry(tmp_path / "registry.json")
    old = add(registry, "mood", made.adapter(tiny_base, classes(3), "lora", seed=0))
    new = add(registry, "mood", made.adapter(tiny_base, classes(3), "lora", seed=7))
    registry.rollback("mood", old)
    return registry, tiny_base, f"mood@{old}", f"mood@{new}"


def test_a_candidate_is_compared_and_promoted(
    versions: tuple[Registry, Base, str, str], adapt: Callable[..., Any], tmp_path: Path
) -> None:
    registry, base, old, new = versions
    registry.tag(new, "next")
    canaries = Canaries([Canary.parse("mood=next:shadow")], report_path(registry))
    log = RequestLog(tmp_path / "rows.jsonl")
    with Pool(base, registry=registry) as pool:
        before, after = ([a["label"] for a in pool.predict(TEXTS, name)] for name in (old, new))
        scored = [pool.predict(TEXTS, name, all_scores=True) for name in (old, new)]
    assert before != after
    with Running(registry, canaries=canaries, request_log=log) as server:
        for number, text in enumerate(TEXTS):
            id_ = f"request-{number}"
            status, answer, headers = server.send("/models/mood", {"inputs": text}, {"x-request-id": id_})
            assert (status, headers["x-adapter-version"]) == (200, old)
            same(answer[0], scored[0][number])
            status, result, _ = server.send("/v1/feedback", {"id": id_, "label": after[number]})
            assert (status, result["right"]) == (200, before[number] == after[number])
        report = server.send("/v1/canary")[1]["mood"]
        metrics = server.send("/metrics")[1]
        canaries.save()
    agreed = sum(a == b for a, b in zip(before, after, strict=True))
    assert (report["rows"], report["agreed"], report["failed"]) == (len(TEXTS), agreed, 0)
    expected = {"both": agreed, "current": 0, "candidate": len(TEXTS) - agreed, "neither": 0}
    assert report["correct"] == expected
    assert report["p_value"] == pytest.approx(binomtest(0, len(TEXTS) - agreed).pvalue)
    distances = [
        sum(abs(p["score"] - {c["label"]: c["score"] for c in b}[p["label"]]) for p in a) / 2
        for a, b in zip(*scored, strict=True)
    ]
    assert report["mean_drift"] == pytest.approx(sum(distances) / len(distances), rel=1e-4)
    disagreed = float(len(TEXTS) - agreed)
    assert f'adapterkit_canary_rows_total{{adapter="mood",result="disagree"}} {disagreed}' in metrics
    assert (
        f'adapterkit_canary_labelled_total{{adapter="mood",right="candidate"}} {float(expected["candidate"])}'
        in metrics
    )
    result = adapt("promote", "mood", "--registry", registry.path)
    assert result.exit_code == 0, result.output
    assert result.output == f"mood is {new}; before: {old}\n"
    assert "@".join(registry.resolve("mood")) == new
    again = adapt("promote", "mood", "--registry", registry.path)
    assert (again.exit_code, "is the current version already" in again.output) == (2, True)
    rows = [json.loads(line) for line in log.feedback_path("mood").read_text().splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == list(zip(TEXTS, after, strict=True))


def test_without_a_significant_difference_nothing_is_promoted(versions: tuple[Registry, Base, str, str]) -> None:
    registry, _, old, new = versions
    with pytest.raises(OptionError, match="name the version"):
        promote(registry, "mood", None, None, force=False)
    for correct, reason in [
        ({"both": 9, "candidate": 5, "current": 0}, r"isn't significant.*p = 0.062"),
        ({"both": 9, "candidate": 3, "current": 3}, "isn't better"),
        ({"both": 9, "candidate": 2, "current": 30}, "isn't better"),
        ({}, "isn't better on 0 labelled rows"),
    ]:
        canaries = Canaries(path=report_path(registry))
        canaries.comparison(old, new).correct.update(correct)
        canaries.changed = True
        canaries.save()
        with pytest.raises(OptionError, match=reason):
            promote(registry, "mood", None, None, force=False)
    registry.rollback("mood", new.partition("@")[2])
    with pytest.raises(OptionError, match="compares"):
        promote(registry, "mood", old.partition("@")[2], None, force=False)
    registry.rollback("mood", old.partition("@")[2])
    assert promote(registry, "mood", None, None, force=True)[1] == new.partition("@")[2]
    report_path(registry).write_text('{"mood": {"current": 1}}')
    with pytest.raises(RegistryError, match="is no report of a canary"):
        read_report(report_path(registry))


def test_a_report_goes_on_after_a_restart_with_the_same_versions(tmp_path: Path) -> None:
    canary, path = Canary("mood", "next", 1.0), tmp_path / "canary.json"
    first = Canaries([canary], path)
    first.comparison("mood@a", "mood@b").rows = 5
    first.changed = True
    first.save()
    again = Canaries([canary], path)
    assert again.comparison("mood@a", "mood@b").rows == 5
    assert again.comparison("mood@b", "mood@c") == Comparison("mood@b", "mood@c")


@pytest.mark.parametrize("text", ["", "mood", "mood=next", "mood=next:0%", "mood=next:101%", "mood=:5%", "a/b=c:5%"])
def test_a_canary_that_cant_be_read(text: str) -> None:
    with pytest.raises((OptionError, RegistryError)):
        Canary.parse(text)


def test_shares_and_what_is_not_compared(versions: tuple[Registry, Base, str, str]) -> None:
    registry, _, old, new = versions
    canaries = Canaries([Canary.parse("mood=" + new.partition("@")[2] + ":25%")])
    with Running(registry, canaries=canaries) as server:
        for _ in range(4):
            server.send("/models/mood", {"inputs": TEXTS * 5})
        count = canaries.comparisons["mood"].rows
        assert 40 < count < 180  # 100 of 400, with a standard deviation of 9
        server.send(f"/models/{new}", {"inputs": TEXTS * 5})
        assert canaries.comparisons["mood"].rows == count  # by its name, the candidate is no canary
        registry.remove(new)
        status, _, headers = server.send("/models/mood", {"inputs": TEXTS * 5})
        assert (status, headers["x-adapter-version"]) == (200, old)
        assert canaries.comparisons["mood"].rows == count


def test_feedback_that_is_refused(server: Running) -> None:
    server.send("/models/mood", {"inputs": ["a fine film", "", "dull"]}, {"x-request-id": "three"})
    server.send("/v1/annotate", {"text": "a film", "adapters": ["mood", "tags"]}, {"x-request-id": "two"})
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"id": "nobody", "label": "l0"}, 404, "x-request-id"),
        ({"id": "three", "label": "l9"}, 422, "no label named 'l9'"),
        ({"id": "three", "label": 1}, 422, "no label named '1'"),
        ({"id": "three", "label": "l0", "row": 1}, 404, "row 1"),
        ({"id": "two", "label": "l0"}, 400, "name the adapter"),
        ({"id": "two", "label": "l0", "adapter": "tags"}, 422, "list of labels"),
        ({"label": "l0"}, 400, "id"),
    ]
    for body, status, text in cases:
        code, error, _ = server.send("/v1/feedback", body)
        assert (code, text in error["error"]["message"]) == (status, True), (body, code, error)
    assert server.send("/v1/feedback", {"id": "three", "label": "l0", "row": 2})[0] == 200
    assert server.send("/v1/feedback", {"id": "three", "label": "l0", "row": 2})[0] == 409
    assert server.send("/v1/feedback", {"id": "two", "label": ["l2"], "adapter": "tags"})[0] == 200


LABELS: dict[str, Any] = {
    "mood": ("l1", "l0"),
    "tags": (["l0", "l2"], ["l1"]),
    "stars": (3.5, 1.25),
    "pair": ("yes", "no"),
    "entities": ([{"start": 4, "end": 9, "label": "a"}], []),
    "questions": ("fine film", "great staff"),
    "choices": (1, 0),
    "story": (" film", " bar"),
    "short": ("a film", "staff"),
}

COLUMNS = {
    "questions": ("--question-column", "q", "--context-column", "c", "--answer-column", "a"),
    "story": ("--task", "text-generation"),
    "short": ("--task", "text2text-generation", "--source-column", "text", "--target-column", "summary"),
    "choices": ("--task", "multiple-choice", "--context-column", "c", "--endings-column-name", "e"),
}
"""The options of tasks whose columns have names that aren't usual ones."""


@pytest.mark.slow
def test_rows_of_every_task_are_logged_for_a_run(stocked: Registry, tmp_path: Path, adapt: Callable[..., Any]) -> None:
    """A file of labelled rows is read as the task that answered them."""
    log = RequestLog(tmp_path / "rows.jsonl")
    with Running(stocked, request_log=log) as server:
        for name, labels in LABELS.items():
            for i in range(4):
                body, id_ = {"inputs": ROWS[name]}, {"x-request-id": f"{name}-{i}"}
                assert server.send(f"/models/{name}", body, id_)[0] == 200
                status, answer, _ = server.send("/v1/feedback", {"id": f"{name}-{i}", "label": labels[i % 2]})
                assert status == 200, answer
    tasks = {name: entry["versions"][entry["current"]]["task"] for name, entry in stocked.adapters().items()}
    for name in LABELS:
        result = adapt("data", log.feedback_path(name), "--json", *COLUMNS.get(name, ()))
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["task"] == tasks[name], (name, result.output)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["adapter"].partition("@")[0] for row in rows] == [name for name in LABELS for _ in range(4)]


def test_redacted_texts_have_their_length(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "rows.jsonl", ["email", "number", "url"])
    text = "Ann <ann.b@example.org> of https://example.org/a?b=1 called 030 1234-5678 at 9 twice"
    log.write({"id": "a"}, {"text": text, "entities": [{"start": 0, "end": 3, "label": "person"}]})
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    expected = f"Ann <{'x' * 17}> of {'x' * 25} called xxx xxxxxxxxx at x twice"
    assert (row["text"], len(row["text"])) == (expected, len(text))
    assert row["entities"] == [{"start": 0, "end": 3, "label": "person"}]
    with pytest.raises(OptionError, match="did you mean 'email'"):
        RequestLog(tmp_path / "other.jsonl", ["emails"])
