"""Instructions, chats and tool calls in the forms that data sets have: read alike in training and prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from click.testing import Result
from datasets import Dataset

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.data import read
from adapterkit.errors import DataError
from adapterkit.tasks import TextGeneration, infer_task
from adapterkit.tasks.columns import columns_of
from adapterkit.tasks.inputs import inputs_of
from adapterkit.testing import tiny

Adapt = Callable[..., Result]
CHATML = (
    "{% if tools %}tools {{ tools | tojson }}\n{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}</>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WITHOUT_TOOLS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}(thought){% endif %}"
    "{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(template: str | None = None) -> Any:
    """Return a tokenizer that writes every byte as a token, so that what it read can be written back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task_of(path: Path, **options: Any) -> tuple[TextGeneration, Dataset]:
    data = read(str(path))
    return TextGeneration(max_seq_length=4096, **options).with_columns(data.column_names), data


def learned(path: Path, template: str | None = None) -> list[tuple[str, str]]:
    """Return for each row what the model reads in all, and the part of it that is learned."""
    (task, data), tok = task_of(path), tokenizer(template)
    task.check(data, path.name)
    features = task.tokenize(data[:], tok, labelled=True)
    pairs = zip(features["input_ids"], features["labels"], strict=True)
    return [(tok.decode(ids), tok.decode([i for i in labels if i != -100])) for ids, labels in pairs]


def prompted(path: Path, template: str | None = None) -> tuple[list[str], list[str]]:
    """Return the prompts of a file's rows, as evaluation makes them, and as prediction does."""
    (task, data), tok = task_of(path), tokenizer(template)
    evaluated = task.prompts(data[:], tok)["input_ids"]
    rows = [{key: value for key, value in row.items() if key != "__line__"} for row in data]
    predicted = task.prompts(columns_of(task, rows).values, tok)["input_ids"]
    return [tok.decode(ids) for ids in evaluated], [tok.decode(ids) for ids in predicted]


def check_prompts(path: Path, template: str | None = None) -> list[str]:
    """Return the prompts of a file, after comparing them with the beginning of what is learned from."""
    evaluated, predicted = prompted(path, template)
    assert evaluated == predicted
    for prompt, (text, _) in zip(evaluated, learned(path, template), strict=True):
        assert text.startswith(prompt)
    return evaluated


# ---- instructions


INSTRUCTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "Alpaca": ({"instruction": "Reverse.", "input": "a b", "output": "b a"}, "Reverse.\na b", "b a"),
    "Alpaca without an input": ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi.", "hi"),
    "Dolly": (
        {"instruction": "Who?", "context": "Ann moved.", "response": "Ann", "category": "closed_qa"},
        "Who?\nAnn moved.",
        "Ann",
    ),
    "Dolly without a context": ({"instruction": "Hi?", "context": "", "response": "Hi", "category": "qa"}, "Hi?", "Hi"),
    "with a system prompt": (
        {"system": "Be brief.", "instruction": "Reverse.", "input": "a b", "output": "b a"},
        "Be brief.\nReverse.\na b",
        "b a",
    ),
    "prompt and completion": ({"prompt": "1 + 1", "completion": "2"}, "1 + 1", "2"),
    "question and answer": ({"question": "1 + 1?", "answer": 2}, "1 + 1?", "2"),
    "an input of several texts": ({"instruction": "Join.", "input": ["a", "b"], "output": "a b"}, "Join.\na b", "a b"),
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_is_read_whole(name: str, tmp_path: Path) -> None:
    row, prompt, answer = INSTRUCTIONS[name]
    assert infer_task(row) == "text-generation"
    path = jsonl(tmp_path / "a.jsonl", row)
    assert learned(path) == [(f"<s>{prompt} {answer}</s>", f" {answer}</s>")]
    assert check_prompts(path) == [f"<s>{prompt}"]


def test_rows_with_and_without_an_input_and_typed_texts_are_read_alike(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", INSTRUCTIONS["Alpaca"][0], INSTRUCTIONS["Alpaca without an input"][0])
    task, data = task_of(path)
    task.check(data, path.name)
    assert task.describe_columns() == "instruction + input -> output"
    tok = tokenizer()
    rows: list[Any] = [{"instruction": "Say hi."}, {"instruction": "Say hi.", "input": None}]
    rows += [inputs_of(task, "Say hi."), inputs_of(task, "Say hi.\t")]
    for row in rows:
        assert tok.decode(task.prompts(columns_of(task, [row]).values, tok)["input_ids"][0]) == "<s>Say hi."
    typed = task.prompts(columns_of(task, ["Reverse.\ta b"]).values, tok)["input_ids"][0]
    assert tok.decode(typed) == "<s>Reverse.\na b"
    with pytest.raises(DataError, match="instruction and input were expected, separated by a tab"):
        columns_of(task, ["a\tb\tc"])


def test_columns_may_be_named_by_option(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"ask": "Reverse.", "about": "a b", "say": "b a"})
    task, data = task_of(path, prompt_column_name="ask", input_column_name="about", completion_column_name="say")
    tok = tokenizer()
    assert tok.decode(task.tokenize(data[:], tok, labelled=True)["input_ids"][0]) == "<s>Reverse.\na b b a</s>"
    with pytest.raises(DataError, match="no column named 'where'"):
        task_of(path, prompt_column_name="ask", input_column_name="where", completion_column_name="say")


def test_an_adapter_without_an_input_has_the_manifest_of_before() -> None:
    before = TextGeneration().with_columns(["prompt", "completion"]).recorded()
    assert not {"input_column_name", "system_column_name", "tools_column_name"} & set(before)
    assert TextGeneration().with_columns(["instruction", "input", "output"]).recorded()["input_column_name"] == "input"


# ---- chats


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CHATS: dict[str, dict[str, Any]] = {
    "OpenAI": {"messages": [turn("user", "Say soup"), turn("assistant", "soup")]},
    "content parts": {
        "messages": [
            turn("user", [{"type": "text", "text": "Say soup"}]),
            turn("assistant", [{"type": "text", "text": "soup"}]),
        ]
    },
    "parts of the responses API": {
        "messages": [
            turn("user", [{"type": "input_text", "text": "Say soup"}]),
            turn("assistant", [{"type": "output_text", "text": "soup"}]),
        ]
    },
    "ShareGPT": {"conversations": [{"from": "human", "value": "Say soup"}, {"from": "gpt", "value": "soup"}]},
    "rounds with numbers": {
        "chat_rounds": [{"role": "human", "content": "Say soup", "n": 0}, {"role": "bot", "content": "soup", "n": 0}]
    },
    "calls that are an empty list as JSON": {
        "messages": [turn("user", "Say soup"), turn("assistant", "soup", tool_calls="[]")]
    },
    "LMSYS": {"conversation": [turn("user", "Say soup"), turn("assistant", "soup")]},
    "TRL": {"prompt": [turn("user", "Say soup")], "completion": [turn("assistant", "soup")]},
    "a text after messages": {"prompt": [turn("user", "Say soup")], "completion": "soup"},
}


@pytest.mark.parametrize("template", [None, CHATML])
@pytest.mark.parametrize("form", CHATS)
def test_every_form_of_a_chat_is_read_alike(form: str, template: str | None, tmp_path: Path) -> None:
    assert infer_task(CHATS[form]) == "text-generation"
    path = jsonl(tmp_path / "a.jsonl", CHATS[form])
    plain = ("<s>user: Say soup\nassistant: soup\n</s>", " soup\n</s>")
    marked = ("<user>Say soup</>\n<assistant>soup</>\n", "soup</>\n")
    assert learned(path, template) == [plain if template is None else marked]
    check_prompts(path, template)
    task, data = task_of(path)
    assert task.references(data) == ["soup"]


def test_messages_in_a_cell_of_a_table_are_messages(tmp_path: Path) -> None:
    chat = CHATS["OpenAI"]["messages"]
    for cell in (json.dumps(chat), repr(chat)):
        path = tmp_path / "a.csv"
        path.write_text('messages\n"' + cell.replace('"', '""') + '"\n')
        assert learned(path) == [("<s>user: Say soup\nassistant: soup\n</s>", " soup\n</s>")]
        check_prompts(path)


def test_several_parts_are_lines_and_nothing_is_pythons_repr(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    path = jsonl(tmp_path / "a.jsonl", {"messages": [turn("user", parts), turn("assistant", parts)]})
    assert learned(path) == [("<s>user: one\ntwo\nassistant: one\ntwo\n</s>", " one\ntwo\n</s>")]


@pytest.mark.parametrize("template", [None, CHATML])
def test_only_the_completion_of_a_chat_prompt_is_learned(template: str | None, tmp_path: Path) -> None:
    before = [turn("system", "Be brief."), turn("user", "a"), turn("assistant", "b"), turn("user", "c")]
    path = jsonl(tmp_path / "a.jsonl", {"prompt": before, "completion": [turn("assistant", "d")]})
    ((text, answer),) = learned(path, template)
    assert answer == (" d\n</s>" if template is None else "d</>\n")
    assert all(message["content"] in text for message in before)
    check_prompts(path, template)


def test_an_answer_of_weight_0_is_read_and_not_learned(tmp_path: Path) -> None:
    chat = [turn("user", "a"), turn("assistant", "b", weight=0), turn("user", "c"), turn("assistant", "d", weight=1)]
    path = jsonl(tmp_path / "a.jsonl", {"messages": chat})
    for template, answer in ((None, " d\n</s>"), (CHATML, "d</>\n")):
        ((text, learns),) = learned(path, template)
        assert "b" in text
        assert learns == answer


def test_roles_of_every_form_and_a_system_prompt_beside_the_chat(tmp_path: Path) -> None:
    chat = [{"from": "system", "value": "x"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    own = jsonl(tmp_path / "a.jsonl", {"conversations": chat, "system": ""})
    beside = jsonl(tmp_path / "b.jsonl", {"conversations": chat[1:], "system": "x"})
    assert learned(own) == learned(beside) == [("<s>system: x\nuser: a\nassistant: b\n</s>", " b\n</s>")]
    assert check_prompts(own) == check_prompts(beside)
    developer = [turn("developer", "x"), turn("user", "a"), turn("assistant", "b")]
    assert learned(jsonl(tmp_path / "c.jsonl", {"messages": developer})) == learned(own)


CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLING = [
    turn("user", "Oslo?"),
    turn("assistant", None, tool_calls=[CALL]),
    turn("tool", "rain", tool_call_id="1"),
    turn("assistant", "It rains."),
]


@pytest.mark.parametrize("template", [None, CHATML, WITHOUT_TOOLS])
def test_tool_calls_and_tools_are_learned_whatever_the_template_writes(template: str | None, tmp_path: Path) -> None:
    for tools in (TOOLS, json.dumps(TOOLS)):
        path = jsonl(tmp_path / "a.jsonl", {"messages": CALLING, "tools": tools})
        ((text, answers),) = learned(path, template)
        assert '"parameters": {"type": "object"}' in text
        assert "rain" in text
        call = (
            '[weather {"city": "Oslo"}]' if template == CHATML else '{"name": "weather", "arguments": {"city": "Oslo"}}'
        )
        assert call in answers
        assert "It rains." in answers
        assert "parameters" not in answers
        (prompt,) = check_prompts(path, template)
        assert call in prompt


def test_the_calls_of_other_forms_are_the_same(tmp_path: Path) -> None:
    old = {"function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    bare = {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]}
    text = {"tool_calls": json.dumps([CALL])}
    forms = [
        turn("assistant", None, tool_calls=[CALL]),
        turn("assistant", None, **text),
        turn("assistant", None, **old),
        turn("assistant", "", **bare),
    ]
    texts = [
        learned(jsonl(tmp_path / "a.jsonl", {"messages": [CALLING[0], form, *CALLING[2:]]}), CHATML) for form in forms
    ]
    assert all(text == texts[0] for text in texts)


def test_keys_that_a_table_fills_up_are_no_arguments(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "time", "arguments": {"zone": "CET"}}}
    calls = {**CALL, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    path = jsonl(tmp_path / "a.jsonl", {"messages": [CALLING[0], turn("assistant", "", tool_calls=[calls, other])]})
    ((_, answer),) = learned(path, CHATML)
    assert answer == '[weather {"city": "Oslo"}][time {"zone": "CET"}]</>\n'


def test_a_chat_that_ends_with_a_call_has_it_as_its_reference(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": CALLING[:2]})
    task, data = task_of(path)
    task.check(data, path.name)
    assert task.references(data) == ['{"name": "weather", "arguments": {"city": "Oslo"}}']


def test_a_template_that_rewrites_earlier_answers_is_remarked_on(tmp_path: Path) -> None:
    chat = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")]
    path = jsonl(tmp_path / "a.jsonl", {"messages": chat}, {"messages": chat[:2]})
    task, data = task_of(path)
    two = [("<user>a</>\n<assistant>b</>\n<user>c</>\n<assistant>(thought)d</>\n", "(thought)d</>\n")]
    assert learned(path, THINKING) == [*two, ("<user>a</>\n<assistant>(thought)b</>\n", "(thought)b</>\n")]
    (remark,) = task.remarks(data, path.name, tokenizer(THINKING))
    assert remark.startswith("a.jsonl: of 1 chats only the last answer is learned")
    assert task.remarks(data, path.name, tokenizer(CHATML)) == task.remarks(data, path.name, tokenizer()) == []


def test_a_template_that_refuses_a_role_is_one_line(tmp_path: Path) -> None:
    chat = [turn("system", "x"), turn("user", "a"), turn("assistant", "b")]
    task, data = task_of(jsonl(tmp_path / "a.jsonl", {"messages": chat}))
    with pytest.raises(DataError, match=r"refuses messages of system.*: System role not supported"):
        task.tokenize(data[:], tokenizer(NO_SYSTEM), labelled=True)


def test_keys_of_messages_that_are_not_read_are_named(tmp_path: Path) -> None:
    chat = [turn("user", "a", timestamp="now", toxic=None), turn("assistant", "b", reasoning_content="since")]
    task, data = task_of(jsonl(tmp_path / "a.jsonl", {"messages": chat}))
    assert task.remarks(data, "a.jsonl", tokenizer()) == ["a.jsonl: not read in messages: reasoning_content, timestamp"]
    reasons = CHATML.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.content }}")
    assert task.remarks(data, "a.jsonl", tokenizer(reasons)) == ["a.jsonl: not read in messages: timestamp"]


# ---- what can't be read


IMAGE = {"type": "image_url", "image_url": {"url": "x.png"}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an image": (
        {"messages": [turn("user", [IMAGE]), turn("assistant", [{"type": "text", "text": "a"}])]},
        "of type 'image_url'",
    ),
    "images beside the text": (
        {"messages": [turn("user", "a", images=["x.png"]), turn("assistant", "b")]},
        "has images",
    ),
    "a message without a role": ({"messages": [{"content": "a"}, turn("assistant", "b")]}, 'a message is {"role"'),
    "a message without content": ({"messages": [turn("user", None), turn("assistant", "b")]}, 'a message is {"role"'),
    "a call without a name": (
        {"messages": [turn("user", "a"), turn("assistant", "", tool_calls=[{"id": "1"}])]},
        "a tool call is",
    ),
    "tools that are none": ({"messages": CALLING[:2], "tools": "weather"}, "a list of tools was expected"),
    "no answer": ({"messages": [turn("user", "a")]}, "the assistant's was expected"),
    "an answer before a text": (
        {"prompt": "a", "completion": [turn("assistant", "b")]},
        "is a list of messages, but prompt",
    ),
    "a completion by the user": (
        {"prompt": [turn("user", "a")], "completion": [turn("user", "b")]},
        "the assistant's was expected",
    ),
    "an object": ({"prompt": {"a": 1}, "completion": "b"}, "a text or a list of messages was expected"),
    "a completion that is an object": ({"prompt": "a", "completion": {"a": 1}}, "but a text was expected"),
    "an input that is an object": ({"instruction": "a", "input": {"a": 1}, "output": "b"}, "but a text was expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cant_be_read_is_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    row, reason = BAD[name]
    path = jsonl(tmp_path / "a.jsonl", row)
    task, data = task_of(path)
    with pytest.raises(DataError) as caught:
        task.check(data, path.name)
    assert str(caught.value).startswith("a.jsonl:1: ")
    assert reason in str(caught.value)


def test_a_text_among_chats_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    chat = json.dumps(CHATS["OpenAI"]["messages"]).replace('"', '""')
    path.write_text(f'messages\n"{chat}"\nplain\n')
    task, data = task_of(path)
    with pytest.raises(DataError, match=r"a\.csv:3: messages is a text, but a list of messages was expected"):
        task.check(data, path.name)


def test_a_run_on_instructions_predicts_with_and_without_an_input(
    registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    base = tiny.make("llama", tmp_path / "base", head="AutoModelForCausalLM")
    path = jsonl(tmp_path / "a.jsonl", *[INSTRUCTIONS[name][0] for name in ("Alpaca", "Alpaca without an input")] * 4)
    options = {"strategy": "lora", "epochs": 1, "train_file": str(path), "name": "a", "max_new_tokens": 2}
    ak.run(base=Base.load(str(base)), registry=registry, **options)
    for rows in ([{"instruction": "Say hi."}], [{"instruction": "Reverse.", "input": "a b"}]):
        out = adapt("predict", "a", "--file", jsonl(tmp_path / "p.jsonl", *rows), "--registry", registry.path)
        assert out.exit_code == 0, out.output
        assert "generated_text" in json.loads(out.stdout)
    out = adapt("predict", "a", "Say hi.", "--registry", registry.path, "--json")
    assert out.exit_code == 0, out.output
