"""Read benchmarks of questions on passages: NewsQA, TyDi QA and ReCoRD as question answering; MultiRC is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, Row

Counts = Counter[tuple[str, str]]
_BAD = (
    "question without an answer that annotators agree on left out",
    "questions without an answer that annotators agree on left out",
)
_YES_NO = ("question with yes or no as its answer left out", "questions with yes or no as their answer left out")


def is_newsqa(row: Row) -> bool:
    """Return whether an object is a story of NewsQA, in its combined file."""
    questions = row.get("questions")
    return (
        isinstance(row.get("text"), str)
        and isinstance(questions, list)
        and bool(questions)
        and all(isinstance(q, Mapping) and isinstance(q.get("q"), str) for q in questions)
    )


def newsqa_questions(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each question of a story whose annotators agree."""
    for number, question in enumerate(row["questions"]):
        agreed = question.get("consensus")
        columns = {"id": f"{row.get('storyId', '')}#{number}", "question": question["q"], "context": row["text"]}
        if every or (agreed is None and "answers" not in question):
            yield columns
        elif isinstance(agreed, Mapping) and agreed.get("noAnswer"):
            yield {**columns, "answers": {"text": [], "answer_start": []}}
        elif isinstance(agreed, Mapping) and isinstance(agreed.get("s"), int) and isinstance(agreed.get("e"), int):
            yield _answered(columns, [(agreed["s"], agreed["e"])])
        else:
            left_out[_BAD] += 1


def is_tydi(row: Row) -> bool:
    """Return whether an object is a question of TyDi QA's primary tasks."""
    return isinstance(row.get("document_plaintext"), str) and isinstance(row.get("question_text"), str)


def tydi_question(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the row of a question with its minimal answers, whose places are bytes of UTF-8."""
    context = row["document_plaintext"]
    columns = {"id": str(row.get("example_id", "")), "question": row["question_text"], "context": context}
    annotations = row.get("annotations")
    annotations = annotations if isinstance(annotations, list) else [annotations]
    annotations = [a for a in annotations if isinstance(a, Mapping)]
    if every or not annotations:
        yield columns
        return
    if any(a.get("yes_no_answer") in ("YES", "NO") for a in annotations):
        left_out[_YES_NO] += 1
        return
    data = context.encode("utf-8", "surrogatepass")
    spans = []
    for annotation in annotations:
        answer = annotation.get("minimal_answer")
        answer = answer if isinstance(answer, Mapping) else {}
        start, end = answer.get("plaintext_start_byte", -1), answer.get("plaintext_end_byte", -1)
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end:
            spans.append(tuple(len(data[:at].decode("utf-8", "ignore")) for at in (start, end)))
    yield _answered(columns, spans)


def is_record(row: Row) -> bool:
    """Return whether an object is a passage of ReCoRD with its queries."""
    passage = row.get("passage")
    return isinstance(passage, Mapping) and isinstance(passage.get("text"), str) and isinstance(row.get("qas"), list)


def record_questions(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each query; its answers are the entities that fill its @placeholder, ends included."""
    context = row["passage"]["text"]
    for query in row["qas"]:
        if not isinstance(query, Mapping) or not isinstance(query.get("query"), str):
            yield BadRow("an object with a text as 'query' was expected in 'qas'")
            continue
        columns = {"id": str(query.get("id", query.get("idx", ""))), "question": query["query"], "context": context}
        answers = query.get("answers")
        if not isinstance(answers, list):
            yield columns
            continue
        spans = [_span(answer) for answer in answers]
        yield BadRow("answers with start and end were expected") if None in spans else _answered(columns, spans)


def _span(answer: Any) -> tuple[int, int] | None:
    start, end = (answer.get("start"), answer.get("end")) if isinstance(answer, Mapping) else (None, None)
    return (start, end + 1) if isinstance(start, int) and isinstance(end, int) else None


def _answered(columns: Row, spans: list[Any]) -> Row | BadRow:
    """Return a row with the answers at some places of its context."""
    context = columns["context"]
    for start, end in spans:
        if not 0 <= start < end <= len(context):
            return BadRow(f"an answer from character {start} to {end}, but the context has {len(context)}")
    texts, starts = [context[start:end] for start, end in spans], [start for start, _ in spans]
    return {**columns, "answers": {"text": texts, "answer_start": starts}}


def is_multirc(row: Row) -> bool:
    """Return whether an object is a passage of MultiRC, whose questions have several right answers."""
    passage = row.get("passage")
    return isinstance(passage, Mapping) and isinstance(passage.get("questions"), list)


def refused_multirc(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the reason why a passage can't be read."""
    yield BadRow(
        "MultiRC has several right answers to a question; write a row for each answer: the passage as 'text', "
        "question and answer as 'text_pair', and 'label' 0 or 1"
    )
