"""A few seconds of `python -m tests.serving_faults`, and a log whose disk is full."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adapterkit import Base, Registry
from adapterkit.serving.request_log import RequestLog
from tests.helpers.server import ROWS, Running
from tests.serving_faults import KINDS, under_load


def test_no_answer_is_wrong_while_the_registry_changes_and_clients_hang_up(tmp_path: Path, tiny_base: Base) -> None:
    result = under_load(tmp_path, tiny_base, 2, clients=8)
    assert result["wrong"] == []
    assert result["left"] == (0, 0, 0)
    assert all(result["faults"][kind] >= 1 for kind in KINDS)
    assert result["statuses"][200] > 20


def test_a_generated_text_with_all_scores_is_logged(stocked: Registry, tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "rows.jsonl")
    with Running(stocked, request_log=log) as server:
        status, answer, _ = server.send("/v1/annotate", {"text": "a fine", "adapters": ["story"], "all_scores": True})
    assert status == 200, answer
    assert json.loads((tmp_path / "rows.jsonl").read_text())["adapter"].startswith("story@")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_under_the_log_fails_no_answer(stocked: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    log = RequestLog(Path("/dev/full"))
    with Running(stocked, request_log=log) as server:
        for _ in range(3):
            assert server.send("/models/mood", {"inputs": ROWS["mood"]})[0] == 200
    assert log.failed == 3
    assert capsys.readouterr().err.count("the log of requests") == 1
