"""Read further benchmarks of questions on passages: MRQA, HotpotQA, CMRC and DROP; CoQA and TriviaQA are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, Row

Counts = Counter[tuple[str, str]]
_YES_NO = ("question with yes or no as its answer left out", "questions with yes or no as their answer left out")
_NO_SPAN = (
    "question whose answer is a number, a date or several spans left out",
    "questions whose answers are numbers, dates or several spans left out",
)


def is_mrqa(row: Row) -> bool:
    """Return whether an object is a context of MRQA 2019 with its questions."""
    questions = row.get("qas")
    return (
        isinstance(row.get("context"), str)
        and isinstance(questions, list)
        and any(isinstance(q, Mapping) and ("detected_answers" in q or "qid" in q) for q in questions)
    )


def mrqa_questions(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each question, with the first place of each answer."""
    context = row["context"]
    for question in row["qas"]:
        if not isinstance(question, Mapping) or not isinstance(question.get("question"), str):
            yield BadRow("an object with a text as 'question' was expected in 'qas'")
            continue
        columns = {"id": str(question.get("qid", "")), "question": question["question"], "context": context}
        detected = question.get("detected_answers")
        if every or not isinstance(detected, list):
            yield columns
            continue
        spans = [span for answer in detected if (span := _first_span(answer))]
        texts, starts = [context[start : end + 1] for start, end in spans], [start for start, _ in spans]
        yield (
            {**columns, "answers": {"text": texts, "answer_start": starts}}
            if spans
            else BadRow("char_spans were expected in detected_answers")
        )


def _first_span(answer: Any) -> tuple[int, int] | None:
    """Return the first span of an answer, whose end is its last character."""
    spans = answer.get("char_spans") if isinstance(answer, Mapping) else None
    first = spans[0] if isinstance(spans, list) and spans else None
    good = isinstance(first, list) and len(first) == 2 and all(isinstance(at, int) and at >= 0 for at in first)
    return (first[0], first[1]) if good and first else None


def is_mrqa_header(row: Row) -> bool:
    """Return whether an object is the first line of a file of MRQA."""
    return list(row) == ["header"] and isinstance(row["header"], Mapping)


def nothing(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield no row."""
    return iter(())


def is_hotpot(row: Row) -> bool:
    """Return whether an object is a question of HotpotQA with its paragraphs."""
    return isinstance(row.get("question"), str) and "supporting_facts" in row and bool(_paragraphs(row.get("context")))


def _paragraphs(context: Any) -> list[str]:
    """Return each paragraph as its title and its sentences, from lists or, as on the Hub, from an object of lists."""
    if isinstance(context, Mapping):
        titles, sentences = context.get("title"), context.get("sentences")
        context = (
            [*zip(titles, sentences, strict=False)] if isinstance(titles, list) and isinstance(sentences, list) else []
        )
    if not isinstance(context, list):
        return []
    texts = []
    for paragraph in context:
        if not isinstance(paragraph, list | tuple) or len(paragraph) != 2 or not isinstance(paragraph[1], list):
            return []
        texts.append(f"{paragraph[0]}: {''.join(map(str, paragraph[1])).strip()}")
    return texts


def hotpot_question(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the row of a question whose answer is part of a paragraph."""
    columns = {"id": str(row.get("_id", row.get("id", ""))), "question": row["question"]}
    columns["context"] = "\n".join(_paragraphs(row["context"]))
    answer = row.get("answer")
    if every or answer is None:
        yield columns
    elif str(answer).lower() in ("yes", "no"):
        left_out[_YES_NO] += 1
    else:
        yield {**columns, "answer": answer}


def is_cmrc(row: Row) -> bool:
    """Return whether an object is a passage of CMRC 2018 in its first form."""
    return isinstance(row.get("context_text"), str) and isinstance(row.get("qas"), list)


def cmrc_questions(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each question; its answers have no places."""
    for question in row["qas"]:
        if not isinstance(question, Mapping) or not isinstance(question.get("query_text"), str):
            yield BadRow("an object with a text as 'query_text' was expected in 'qas'")
            continue
        columns = {"id": str(question.get("query_id", "")), "question": question["query_text"]}
        columns["context"] = row["context_text"]
        answers = question.get("answers")
        yield columns if every or not isinstance(answers, list) or not answers else {**columns, "answer": answers[0]}


def is_drop(row: Row) -> bool:
    """Return whether an object is a passage of DROP with its questions."""
    return isinstance(row.get("passage"), str) and isinstance(row.get("qa_pairs"), list)


def drop_questions(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each question whose answer is one span of the passage."""
    for pair in row["qa_pairs"]:
        if not isinstance(pair, Mapping) or not isinstance(pair.get("question"), str):
            yield BadRow("an object with a text as 'question' was expected in 'qa_pairs'")
            continue
        columns = {"id": str(pair.get("query_id", "")), "question": pair["question"], "context": row["passage"]}
        answer = pair.get("answer")
        spans = answer.get("spans") if isinstance(answer, Mapping) else None
        if every or answer is None:
            yield columns
        elif isinstance(spans, list) and len(spans) == 1 and isinstance(spans[0], str) and spans[0] in row["passage"]:
            yield {**columns, "answer": spans[0]}
        else:
            left_out[_NO_SPAN] += 1


def is_coqa(row: Row) -> bool:
    """Return whether an object is a story of CoQA with a conversation about it."""
    return isinstance(row.get("story"), str) and isinstance(row.get("questions"), list)


def refused_coqa(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the reason why a story can't be read."""
    yield BadRow(
        "CoQA's answers are free texts in a conversation; write a row for each answer: story and questions as "
        "'source', the answer as 'target', for text2text-generation"
    )


def is_trivia(row: Row) -> bool:
    """Return whether an object is a question of TriviaQA, whose evidence is in other files."""
    return isinstance(row.get("Question"), str) and isinstance(row.get("Answer"), Mapping)


def refused_trivia(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the reason why a question can't be read."""
    yield BadRow("TriviaQA's evidence is in files of its own; write rows with question, context and answer")
