"""Texts are cut into words as the words of the training rows were, in every script, and never inside a character."""

# ruff: noqa: RUF001, letters of many scripts
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit import Base, run
from adapterkit.errors import OptionError
from adapterkit.tasks import task_class
from adapterkit.tasks.columns import Columns
from adapterkit.tasks.word_rules import learn, reproduced
from adapterkit.tasks.word_split import FLAGS, SETTINGS, check_rule, is_segmented, split


def words(text: str, rule: tuple[str, ...]) -> list[str]:
    return [text[start:end] for start, end in split(text, rule)]


def learned(*sentences: str) -> tuple[str, ...]:
    return learn([(sentence.split(), None) for sentence in sentences]).rule


CORPORA: dict[str, tuple[list[str], str, list[str]]] = {
    "hyphens and names": (
        ["al-Masri met Ms. Ek .", "O'Hara left U.N. talks .", "Ms. Ek saw Aix-les-Bains ."],
        "O'Dea met Ms. Ek in Spa-Bains, near the U.S.",
        ["O'Dea", "met", "Ms.", "Ek", "in", "Spa-Bains", ",", "near", "the", "U.S."],
    ),
    "abbreviations without other periods": (
        ["Mr. Ek left St. Ives", "Mr. Bo saw St. Ives", "Ann met Dr. No", "Dr. No left"],
        "Mr. Ek saw Dr. No in Oslo.",
        ["Mr.", "Ek", "saw", "Dr.", "No", "in", "Oslo", "."],
    ),
    "hyphens split off": (
        [
            "the Oslo - based firm",
            "a well - known e-mail man",
            "a two - way radio",
            "an e-mail",
            *["an all - day fair"] * 8,
        ],
        "a Rome-based firm",
        ["a", "Rome", "-", "based", "firm"],
    ),
    "clitics": (
        ["I do n't see Ann 's cat ,", "they 've left ; we 'll see -- well ...", "he has n't , has he ?"],
        "Bob's dog hasn't... they\u2019ve",
        ["Bob", "'s", "dog", "has", "n't", "...", "they", "\u2019ve"],
    ),
    "elision": (
        ["L' eau de l' île , n' est-ce pas ?", "aujourd'hui , l' ami d' Yves arrive ."],
        "L'ami n'est aujourd'hui d'accord.",
        ["L'", "ami", "n'", "est", "aujourd'hui", "d'", "accord", "."],
    ),
    "numbers and signs": (
        ["it costs 1,000.50 € or 5% more .", "at 10:30 , 50% of $ 3,000"],
        "12,5% of 7.25 at 11:45.",
        ["12,5%", "of", "7.25", "at", "11:45", "."],
    ),
    "messages": (
        ["@ann see https://a.b/c?d=1 #nlp :-) !!!", "RT @bob : hm :-) ..."],
        "@eve: look (http://x.y/z). #ok :-) ???",
        ["@eve", ":", "look", "(", "http://x.y/z", ")", ".", "#ok", ":-)", "???"],
    ),
    "spaces alone": (
        ["Hello, my name is Bob.", "Yes, Anna, it is!", "So: well, it's fine."],
        "Well, O'Neil: no.",
        ["Well,", "O'Neil:", "no."],
    ),
    "Chinese characters": (
        ["王 芳 在 南 京 。", "李 明 用 iPhone 15 。"],
        "张伟买iPhone了。",
        [*"张伟买", "iPhone", "了", "。"],
    ),
    "every character": (["王 芳 1 9 9 8 年 N B A 。", "李 明 2 0 年 。"], "张伟35岁UN", [*"张伟35岁UN"]),
    "Hindi": (["राम दिल्ली में है ।", "सीता ने सेब खाया ।"], "मीरा को मिले।", ["मीरा", "को", "मिले", "।"]),
    "Arabic, from right to left": (
        ["ذَهَبَ محمد إلى القاهرة .", "نعم ، شكرا ."],
        "قالَ أحمد، نعم.",
        ["قالَ", "أحمد", "،", "نعم", "."],
    ),
    "Persian with zero-width non-joiners": (
        ["او می\u200cرود .", "ما می\u200cخواهیم ، نه ."],
        "نمی\u200cدانم، نه.",
        ["نمی\u200cدانم", "،", "نه", "."],
    ),
    "Korean": (["나는 서울에 산다 .", "그는 부산에 갔다 ."], "민수는 대구에 간다.", ["민수는", "대구에", "간다", "."]),
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_text_is_cut_as_the_words_of_the_training_rows(name: str) -> None:
    sentences, text, expected = CORPORA[name]
    result = learn([(sentence.split(), None) for sentence in sentences])
    assert words(text, result.rule) == expected
    assert result.share == 1.0
    check_rule(result.rule)


def test_a_rule_of_training_rows_with_texts_is_measured_on_these_texts() -> None:
    rows = [(["Oslo", ",", "Bergen"], "Oslo,Bergen"), (["Rome", "-", "Bari"], "Rome-Bari"), (["a", "-", "b"], "a-b")]
    result = learn(rows)
    assert (result.rule[0], result.share) == ("punctuation", 1.0)
    assert words("Pisa-Lucca", result.rule) == ["Pisa", "-", "Lucca"]
    whole = learn([(["(Oslo,", "no)"], "(Oslo, no)"), (["so:", "yes."], "so: yes."), (["he;"], "he;")])
    assert whole.rule[0] == "whitespace"


def test_the_share_of_reproduced_rows_is_counted() -> None:
    rows = [(["Bo", "nn"], "Bonn"), (["so", "."], "so."), (["no", "."], "no.")]
    result = learn(rows)
    assert (result.reproduced, result.sentences) == (2, 3)
    assert reproduced(result.rule, rows) == result


THAI = ["ฉัน รัก ประเทศไทย", "เขา ไป กรุงเทพ แล้ว"]


@pytest.mark.parametrize(
    ("sentences", "text", "spaced"),
    [
        (["王芳 喜欢 南京 。", "李明 去 了 北京 大学 。"], "张伟去了上海大学。", "张伟 去 了 上海 大学 。"),
        (THAI, "ฉันไปกรุงเทพแล้ว", "ฉัน ไป กรุงเทพ แล้ว"),
        (["東京 に 行く 。", "ロンドン へ 行った 。"], "私はロンドンに行く。", "私 は ロンドン に 行く 。"),
    ],
)
def test_a_text_without_spaces_is_no_sequence_of_words_where_words_follow_no_rule(
    sentences: list[str], text: str, spaced: str
) -> None:
    rule = learned(*sentences)
    assert any(setting.startswith("segmented=") for setting in rule)
    assert is_segmented(spaced, rule)
    assert words(spaced, rule) == spaced.split()
    assert not is_segmented(text, rule)
    assert words(text, rule) == [w for w in regex.findall(r"\X", text) if w.strip()]


EMOJI = ["👩‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]


@pytest.mark.parametrize("rule", [("characters",), ("punctuation",), ("punctuation", "each", "runs")])
def test_an_emoji_sequence_is_one_word(rule: tuple[str, ...]) -> None:
    assert words("".join(f"a{e}" for e in EMOJI if e != "1️⃣"), rule)[1::2] == [e for e in EMOJI if e != "1️⃣"]
    assert words(" ".join(EMOJI), rule) == EMOJI


@pytest.mark.parametrize("rule", [("punctuation",), ("whitespace",)])
def test_invisible_characters_are_part_of_no_word_s_ends(rule: tuple[str, ...]) -> None:
    text = "\ufeffAnn \u200fداود\u200f co\u00adop\u00ad x\u200by \u202bאב\u202c"
    assert words(text, rule) == ["Ann", "داود", "co\u00adop", "x", "y", "אב"]


RULES = st.one_of(
    st.just(("characters",)),
    st.tuples(st.just("whitespace"), st.sampled_from(["each", "segmented=1.5"])),
    st.lists(
        st.one_of(
            st.sampled_from(sorted(FLAGS)),
            st.builds(
                lambda name, value: f"{name}={value}",
                st.sampled_from(sorted(set(SETTINGS) - {"segmented"})),
                st.sampled_from(["'", "-", ".", "%", "é", "Mr.", ":-)", "'s", "n't", "a\u0301", "👍", "[", "\\"]),
            ),
        ),
        max_size=8,
    ).map(lambda parts: ("punctuation", *parts)),
)
TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "aZ9 .'-%\u0301\u093f\u200d\u200c\u200b\u00ad\ufeff👍🏽👩🇩🇪王ก\u0e31اﷺ\r\n\t\u2028_\u1100\u1161"
        ),
        st.characters(),
    ),
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(TEXTS, RULES)
def test_no_rule_cuts_inside_a_grapheme_cluster_or_drops_a_visible_character(text: str, rule: tuple[str, ...]) -> None:
    boundaries = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    spans, at = split(text, rule), 0
    for start, end in [*spans, (len(text), len(text))]:
        assert {start, end} <= boundaries
        assert at <= start
        assert all(dropped(cluster) for cluster in regex.findall(r"\X", text[at:start])), text[at:start]
        at = end
    assert all(start < end and text[start:end].strip() for start, end in spans)


def dropped(cluster: str) -> bool:
    return regex.match(r"[\s\p{Cc}\p{Cf}]", cluster) is not None


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(TEXTS.map(lambda t: "".join(t.split())).filter(bool), min_size=1, max_size=6), min_size=1, max_size=6
    )
)
def test_any_words_have_a_rule_that_a_manifest_can_hold(sentences: list[list[str]]) -> None:
    result = learn([(sentence, None) for sentence in sentences])
    check_rule(result.rule)
    again = reproduced(tuple(json.loads(json.dumps(result.rule))), [(sentence, None) for sentence in sentences])
    assert again == result


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("words",), "must begin with one of characters, punctuation, whitespace, got 'words'"),
        (("punctuation", "inner=-"), "unknown setting 'inner=-'; available: inside, digits, "),
        (("punctuation", "inside"), "unknown setting 'inside'"),
        (("punctuation", "word=" + "a" * 65), "at most 64 characters"),
        (("whitespace", "segmented=x"), "segmented must be a number, got 'x'"),
    ],
)
def test_an_unknown_rule_is_refused_by_name(rule: tuple[str, ...], message: str) -> None:
    with pytest.raises(OptionError, match=regex.escape(message)):
        task_class("token-classification")(word_split=rule)


def test_an_adapter_without_a_rule_cuts_texts_as_before_and_its_manifest_is_as_before() -> None:
    task: Any = task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-X")
    )
    assert task.rows(["O'Brien, U.S."])["tokens"] == [["O", "'", "Brien", ",", "U", ".", "S", "."]]
    assert "word_split" not in task.recorded()


def test_the_answer_names_the_characters_of_the_text_whatever_its_other_column_holds() -> None:
    import numpy as np

    task: Any = task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-X"), word_split=("punctuation",)
    )
    logits = [np.array([[0.0, 9.0], [9.0, 0.0]])]
    for text, start in (("  Oslo, again", 2), ("something else", 0)):
        (answer,) = task.answers(logits, Columns({"tokens": [["Oslo", ","]], "text": [text]}), None)
        (entity,) = answer["entities"]
        assert (entity["text"], entity["start"]) == ("Oslo", start)


TAGGED = """O'Dea\tB-PER
met\tO
Ek-Dahl\tB-PER
in\tO
St.\tB-LOC
Ives\tI-LOC
.\tO

Ek-Dahl\tB-PER
left\tO
St.\tB-LOC
Ives\tI-LOC
,\tO
O'Dea\tB-PER
too\tO
.\tO

"""


def test_words_and_their_text_get_the_same_entities(
    tmp_path: Path, adapt: Callable[..., Result], tiny_folder: Callable[..., Path]
) -> None:
    (tmp_path / "rows.conll").write_text(TAGGED * 6)
    done = adapt(
        *(
            "run",
            "--name",
            "t",
            "--base",
            tiny_folder(),
            "--train-file",
            "rows.conll",
            "--validation-file",
            "rows.conll",
        ),
        *("--strategy", "full", "--epochs", "8", "--learning-rate", "0.01"),
    )
    assert done.exit_code == 0, done.output
    sentence = "O'Dea met Ek-Dahl in St. Ives ."
    (tmp_path / "words.jsonl").write_text(json.dumps({"tokens": sentence.split()}))
    by_words = json.loads(adapt("predict", "t", "--file", "words.jsonl", "--format", "jsonl").stdout)["entities"]
    by_text = json.loads(adapt("predict", "t", "O'Dea met Ek-Dahl in St. Ives.", "--json").stdout)[0]["entities"]
    assert len(by_words) > 1
    keys = ("entity", "text", "score")
    assert [[e[k] for k in keys] for e in by_text] == [[e[k] for k in keys] for e in by_words]


def test_what_no_rule_reproduces_is_remarked_on(tmp_path: Path, tiny_folder: Callable[..., Path]) -> None:
    rows = [
        {"tokens": ["Bo", "n", "n", "is", "old"], "text": "Bonn is old", "ner_tags": ["B-X", "I-X", "I-X", "O", "O"]}
    ] * 4
    rows += [{"tokens": ["it", "is"], "text": "it is", "ner_tags": ["O", "O"]}] * 4
    report = run(
        strategy="head-only",
        base=str(tiny_folder()),
        train=rows,
        validation=rows,
        watch=None,
        name="t",
        registry=tmp_path / "r.json",
    )
    assert [remark for remark in report.remarks if "cut into words" in remark] == [
        f"memory:{split}: texts are cut into words by 'punctuation', which reproduces the words of 4 of 8 rows; "
        "predict from lists of words instead of texts"
        for split in ("train", "validation")
    ]
    segmented = [{"tokens": ["王芳", "喜欢", "南京"], "ner_tags": ["B-X", "O", "O"]}] * 8
    report = run(
        strategy="head-only",
        base=Base.load(str(tiny_folder())),
        train=segmented,
        watch=None,
        name="z",
        registry=tmp_path / "r.json",
    )
    assert any("no rule finds them in a text" in remark for remark in report.remarks)
    answer = report.predict("王芳去了南京大学")
    assert "no spaces between words" in answer["remark"]
    assert "remark" not in report.predict("王芳 去了 南京")
