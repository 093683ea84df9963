"""What is written is read as the same rows, and these are written as the same file, whatever the texts hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapterkit.cli.writing import WRITERS
from adapterkit.data.blank import is_blank
from adapterkit.data.readers import rows

TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab,;|\t\"'\\\n\r =[{#éШक\u0301\u200d\ufeff\u2028😀"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=30,
).filter(lambda text: not is_blank(text))
ROWS = st.lists(st.builds(lambda text, label: {"text": text, "label": label}, TEXTS, st.sampled_from("ab")), min_size=1)


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_is_read_as_its_rows_and_written_as_itself(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{form}"

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example(table=[{"text": "'", "label": "a"}] * 2)
    @example(table=[{"text": "'b'", "label": "a"}] * 2)
    @example(table=[{"text": "a,'b',a", "label": "a"}] * 2)
    @given(table=ROWS)
    def holds(table: list[dict[str, str]]) -> None:
        content = "".join(WRITERS[form](iter([table])))
        path.write_text(content, encoding="utf-8", newline="")
        again = [row for _, row in rows(str(path))]
        assert again == table
        assert "".join(WRITERS[form](iter([again]))) == content

    holds()
