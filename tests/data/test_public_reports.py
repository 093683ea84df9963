"""Files after public reports are read as the table says, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base
from tests.helpers.reports import BEGIN, END, PAGE, bases, outcome, reports, table


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    return bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize("report", reports(), ids=lambda report: f"{report['source']}: {report['what']}")
def test_a_report_has_the_outcome_of_the_table(report: dict[str, Any], loaded: dict[str, Base], tmp_path: Path) -> None:
    found = outcome(report, loaded, tmp_path)
    assert found == report["outcome"]
    assert "\n" not in found.get("error", "")


def test_the_page_has_the_table() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table(reports())
    assert len(reports()) >= 20
