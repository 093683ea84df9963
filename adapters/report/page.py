"""Write results as one HTML file, with nothing to load: for a browser, a printer, a screen reader and a keyboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..display import size
from ..errors import OptionError
from ..io.atomic import check_writable, write_file
from .plots import plots_of
from .results import Answer, Candidate, Results, Row, decoded_results
from .texts import difference_text, metric_text

MOST_LABELS = 30
"""The most labels whose confusion matrix is shown as a table; of more, the pairs that are confused most."""
_MOST_PAIRS, _MOST_ERRORS = 30, 15


def write_page(results: Results, path: Path) -> list[Path]:
    """Write results as a page and, beside it, as JSON; return both files."""
    check_page(path)
    data = path.with_suffix(".json")
    encoded = results.encoded()
    write_file(path, page(decoded_results(encoded)).encode())
    write_file(data, encoded)
    return [path, data]


def check_page(path: Path) -> None:
    """Raise `OptionError` where a page can't be written: another suffix, or a package is missing."""
    if path.suffix not in (".html", ".htm"):
        raise OptionError(f"'{path}': expected a page's name, which ends in .html")
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise OptionError(f"a page requires {' and '.join(missing)}: pip install 'adapterkit[report]'")
    check_writable(path.parent)


def page(results: Results) -> str:
    """Return results as an HTML page."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "template"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=lambda n: size(int(n)), percent=lambda x: f"{100 * x:.1f} %")
    shown = [c for c in results.candidates if not c.error]
    heads, table = _table(results)
    text: str = environment.get_template("page.html.j2").render(
        results=results,
        heads=heads,
        table=table,
        plots=plots_of(results),
        confusions=[(c, _confusion(results, c)) for c in shown if c.tables.get("confusion")],
        shown=shown,
        main=next((c for c in shown if c.name == (results.recommended or results.best)), shown[0] if shown else None),
        rows=[_row(results, row) for row in results.rows],
        errors=_errors(results),
        slices=_slices(results),
        style=_read("page.css"),
        script=_read("page.js"),
    )
    return text


def _read(name: str) -> str:
    return (Path(__file__).parent / "template" / name).read_text()


def _table(results: Results) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of the main table that have a value, and a line for each candidate."""
    splits = list(dict.fromkeys(("validation", results.split)))
    heads = [f"{results.metric} ({split})" for split in splits]
    heads += ["to the best", "training", "peak memory", "adapter", "learned", "rows/s", "beside 31 others"]
    lines = [_cells(results, candidate, splits) for candidate in results.candidates]
    filled = [i for i in range(len(heads)) if any(line[i][1] is not None for line in lines)] or [0]
    return [heads[i] for i in filled], [
        {"candidate": candidate, "number": number % 12, "cells": [cells[i] for i in filled]}
        for number, (candidate, cells) in enumerate(zip(results.candidates, lines, strict=True))
    ]


def _cells(results: Results, candidate: Candidate, splits: Sequence[str]) -> list[tuple[str, float | None]]:
    """Return a candidate's cells of the main table, each a text and a number to sort by."""
    costs = candidate.costs
    cells: list[tuple[str, float | None]] = []
    for name in splits:
        measured = candidate.metrics.get(name)
        cells.append(
            (metric_text(candidate, name, results.metric), measured.values.get(results.metric) if measured else None)
        )
    gap = candidate.differences.get(results.split)
    cells.append((difference_text(results, candidate), gap.value if gap is not None else None))
    for value, form in (
        (costs.seconds, "{:,.1f} s"),
        (costs.memory, None),
        (costs.bytes, None),
        (costs.parameters, "{:,.0f}"),
        (costs.rate, "{:,.0f}"),
        (costs.rate_beside, "{:,.0f}"),
    ):
        cells.append(("-" if value is None else size(int(value)) if form is None else form.format(value), value))
    return cells


def _confusion(results: Results, candidate: Candidate) -> dict[str, Any]:
    """Return a confusion matrix, or of many labels the pairs that are confused most."""
    cells = candidate.tables["confusion"]
    labels = results.labels
    if len(labels) > MOST_LABELS:
        pairs = sorted((c for c in cells if c[0] != c[1]), key=lambda c: -c[2])[:_MOST_PAIRS]
        return {"pairs": [(labels[i], labels[j], n) for i, j, n in pairs]}
    counts = {(i, j): n for i, j, n in cells}
    totals = Counter[int]()
    for i, _, n in cells:
        totals[i] += n
    rows = [
        [(counts.get((i, j), 0), counts.get((i, j), 0) / max(1, totals[i])) for j in range(len(labels))]
        for i in range(len(labels))
    ]
    return {"rows": rows}


def _row(results: Results, row: Row) -> dict[str, Any]:
    """Return a row with its answers, each with the candidates that return it, the most frequent first."""
    names: dict[str, list[str]] = {}
    right: dict[str, bool | None] = {}
    wrong, scores = [], []
    for candidate, answer in zip(results.candidates, row.answers, strict=True):
        if answer is None:
            continue
        sure = "" if answer.score is None else f" {answer.score:.2f}"
        names.setdefault(answer.text, []).append(f"{candidate.name}{sure}")
        right[answer.text] = answer.right
        if answer.right is False:
            wrong.append(candidate.name)
            scores.append(answer.score or 0.0)
    answers = sorted(names.items(), key=lambda item: -len(item[1]))
    return {
        "row": row,
        "answers": [(text, by, right[text]) for text, by in answers],
        "wrong": wrong,
        "sure": max(scores, default=0.0),
        "differ": len(names) > 1,
    }


def _errors(results: Results) -> list[tuple[str, list[tuple[Row, Answer]]]]:
    """Return each candidate's wrong rows of the greatest confidence."""
    tables = []
    for number, candidate in enumerate(results.candidates):
        wrong = [(row, a) for row in results.rows if (a := row.answers[number]) is not None and a.right is False]
        wrong.sort(key=lambda pair: -(pair[1].score or 0.0))
        if wrong:
            tables.append((candidate.name, wrong[:_MOST_ERRORS]))
    return tables


def _slices(results: Results) -> list[dict[str, Any]]:
    """Return the slices of the rows, with the share of right answers of each candidate that has them."""
    by_slice: dict[tuple[str, str], dict[str, Any]] = {}
    some: Sequence[Candidate] = [c for c in results.candidates if c.tables.get("slices")]
    for candidate in some:
        for row in candidate.tables["slices"]:
            entry = by_slice.setdefault((row["slice"], row["value"]), {"rows": row["rows"], "right": {}})
            entry["right"][candidate.name] = row["right"]
    names = [c.name for c in some]
    return [
        {"slice": name, "value": value, "rows": e["rows"], "right": [e["right"].get(n) for n in names], "names": names}
        for (name, value), e in by_slice.items()
    ]
