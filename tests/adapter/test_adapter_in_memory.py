"""An adapter in memory: its short form, and its move to another base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapterkit import Adapter, Base
from adapterkit.convert.compress import compress
from adapterkit.errors import AdapterError
from adapterkit.io.untrusted import MOST_JSON
from tests.helpers import random_adapters as made
from tests.helpers.adapters import CLASSIFY


def test_its_short_form_names_task_strategy_base_and_size(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, CLASSIFY, "head-only")
    base = adapter.manifest["base"]["name"]
    facts = f"task text-classification, strategy head-only, base {base}, tensors 2 (66 numbers, 264 B)"
    assert repr(adapter) == f"<Adapter {facts}>"
    incomplete = Adapter({"task": {"name": "x"}, "strategy": {}}, {"a": torch.zeros(600, dtype=torch.float16)})
    assert repr(incomplete) == "<Adapter task x, strategy ?, base ?, tensors 1 (600 numbers, 1.2 kB)>"


def test_an_adapter_that_is_moved_to_another_base_records_the_one_it_was_trained_on(
    tiny_base: Base, tiny_folder: Callable[..., Path]
) -> None:
    adapter, other = made.adapter(tiny_base, CLASSIFY), Base.load(str(tiny_folder("bert", 1)))
    assert adapter.moved_to(tiny_base) is adapter
    assert adapter.mismatch is None
    with pytest.raises(AdapterError):
        adapter.check_base(other)
    moved = adapter.moved_to(other)
    moved.check_base(other)
    before, after = adapter.manifest["base"], moved.manifest["base"]
    assert after["mismatch"]["trained_on"] == {key: before[key] for key in ("name", "fingerprint")}
    assert after["mismatch"]["differs"] == other.differences(before)
    assert (after["prefix"], after["fingerprint"]) == (before["prefix"], other.fingerprint)
    assert moved.tensors is adapter.tensors
    assert {**moved.manifest, "base": 0} == {**adapter.manifest, "base": 0}
    for fact in (f"'{before['name']}'", before["fingerprint"][:12], *other.differences(before)):
        assert fact in str(moved.mismatch)


def test_there_can_be_as_many_labels_as_numbers_and_no_more() -> None:
    def with_labels(count: int) -> Adapter:
        options = {"labels": [str(i) for i in range(count)], "problem_type": "single_label_classification"}
        task = {"name": "text-classification", "options": options}
        return Adapter({"task": task}, {"a": torch.zeros(2, 3), "b": torch.zeros(4)})

    with_labels(10).check_labels()
    with pytest.raises(AdapterError, match="11 labels, but only 10 numbers"):
        with_labels(11).check_labels()


def test_it_is_a_table_in_a_notebook(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, CLASSIFY, "head-only")
    adapter.manifest["metrics"] = {"test": {"accuracy": 0.5, "n": 4}}
    table = adapter._repr_html_()
    assert table.count("<tr>") == 5
    for name, value in (("task", "text-classification"), ("strategy", "head-only"), ("test accuracy", "0.500")):
        assert f">{name}</t" in table
        assert f">{value}</t" in table


def test_an_adapter_that_could_not_be_read_again_is_not_made_into_files(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, CLASSIFY, "head-only")
    adapter.manifest["training"] = {"note": "x" * MOST_JSON}
    with pytest.raises(AdapterError, match=f"at most {MOST_JSON} "):
        adapter.files()
    adapter.manifest["training"] = 3
    with pytest.raises(AdapterError, match="training must be an object, got 3"):
        adapter.files()


def test_an_adapter_with_tokens_runs_on_a_base_with_the_same_tokens(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, CLASSIFY)
    assert adapter.on(tiny_base) is tiny_base
    wider = tiny_base.with_tokens(["<a>", "<b>"])
    stated = wider.added_tokens
    with_tokens = Adapter({**adapter.manifest, "added_tokens": stated}, adapter.tensors)
    assert with_tokens.on(wider) is wider
    for base in (tiny_base, tiny_base.with_tokens(["<c>"])):
        assert with_tokens.on(base).added_tokens == stated
    moved = {token: number + 7 for token, number in stated.items()}
    with pytest.raises(AdapterError, match=f"{stated['<a>']}.*, not .*{moved['<a>']}"):
        Adapter({**adapter.manifest, "added_tokens": moved}, adapter.tensors).on(tiny_base)


def test_only_encoded_patches_are_decoded(tiny_base: Base) -> None:
    plain = made.adapter(tiny_base, CLASSIFY, "layerwise", std=1e-4)
    assert plain.decoded(tiny_base) is plain
    encoded = compress(tiny_base, plain, "exact")
    decoded = encoded.decoded(tiny_base)
    assert {patch["kind"] for patch in decoded.manifest["patches"].values()} == {"replace"}
    assert decoded.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(decoded.tensors[name], tensor) for name, tensor in plain.tensors.items())
