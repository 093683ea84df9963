"""Linear probes: solved, chosen on validation rows, saved, and run no higher than they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit import Adapter, Base, Plan, Pool, Registry, predict, run
from adapterkit.convert.merge import merge
from adapterkit.errors import AdapterError, TrainingError
from adapterkit.evaluation.evaluate import evaluate
from adapterkit.features.feed import Feed
from adapterkit.features.tokenize import tokenized
from adapterkit.modules import blocks
from adapterkit.probe import few_texts, search
from adapterkit.probe.examples import Reader
from adapterkit.probe.model import Form, layers_of
from adapterkit.testing import tiny
from adapterkit.watch import Watch
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.bases import same, state
from tests.helpers.families import PAIRS
from tests.helpers.probes import task_of
from tests.helpers.rows import ASK
from tests.helpers.task_plans import plan
from tests.helpers.watches import Notes

PROBED = ("text-classification", "token-classification", "question-answering", "multiple-choice")


@pytest.mark.product
@pytest.mark.parametrize(
    ("family", "task", "most"),
    [  # of texts with a vector each, the way of few texts and that of more
        (family, task, most)
        for family, task in PAIRS
        if task in PROBED
        for most in (
            (0, few_texts.MOST_TEXTS) if task == "text-classification" and family in ("bert", "gpt2") else (0,)
        )
    ],
)
def test_it_is_solved_saved_and_says_the_same_again(
    family: str,
    task: str,
    most: int,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(few_texts, "MOST_TEXTS", most)
    base = base_for(family, task)
    before = state(base)
    report = run(plan(task, rows_of(task, 24), "head-only"), registry, base=base)
    encoder_decoder = base.model.config.is_encoder_decoder
    assert ("probe" in report.adapter.manifest) == (not encoder_decoder)
    assert same(state(base), before)
    if encoder_decoder:
        return
    adapter = registry.load("tiny")
    assert set(adapter.tensors) == {"base_model.model.probe.score.weight", "base_model.model.probe.score.bias"}
    alone = predict(base, adapter, [ASK[task]])
    with Pool(base, {"tiny": adapter}) as pool:
        assert pool.predict([ASK[task]], adapter="tiny") == tolerance.near(alone, tolerance.of_base(base))


@pytest.mark.parametrize("task", PROBED)
def test_texts_read_in_two_parts_and_kept_on_disk_are_the_same_examples(
    task: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    tmp_path: Path,
) -> None:
    from adapterkit.workflows.run import prepare_run

    on = prepare_run(plan(task, rows_of(task, 24), "head-only"), base=base_for("bert", task))
    rows = tokenized(on.task, on.splits["train"], on.base, labelled=True)
    feed = Feed(rows, on.task.collate(on.base.tokenizer, on.base.model), on.base.modality)
    by_token = task in ("token-classification", "question-answering")
    forms = [Form((1,), None), Form((2,), None)] if by_token else [Form((1,), "mean"), Form((2,), "cls")]
    told = {"device": on.base.model.device, "by_token": by_token, "label_names": on.task.label_names, "mixed": "no"}
    told["watch"] = Watch()
    whole, parts = Reader[Form](feed, **told), Reader[Form](feed, **told, folder=tmp_path)
    whole.read(range(len(feed)), search._run_base(on.base, forms))
    seen: list[int] = []

    def counted(forms: list[Form]) -> Any:
        ask = search._run_base(on.base, forms)
        return lambda batch: (seen.append(len(batch["input_ids"])), ask(batch))[1]

    few = list(range(3, len(feed), 5))
    parts.read(few, counted(forms))
    assert sum(seen) == len(few)
    for form in forms:
        found, wanted = parts.examples(form, few), whole.examples(form, few)
        tolerance.assert_near(found.x, wanted.x, tolerance.of_base(on.base))
        assert found.counts.tolist() == wanted.counts.tolist()
        assert all(torch.equal(found.labels[k], wanted.labels[k]) for k in wanted.labels)
    parts.select(forms[1:])
    parts.read(range(len(feed)), counted(forms[1:]))
    assert sum(seen) == len(feed)
    found, wanted = parts.examples(forms[1]), whole.examples(forms[1])
    tolerance.assert_near(found.x, wanted.x, tolerance.of_base(on.base))
    assert len(found.x) == sum(found.counts) == sum(wanted.counts)
    assert all(torch.equal(found.labels[k], wanted.labels[k]) for k in wanted.labels)
    assert list(tmp_path.iterdir()) == [tmp_path / f"{task}.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize("task", PROBED)
def test_it_is_solved_from_disk_and_a_full_one_is_an_error(
    task: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, rows = base_for("bert", task), rows_of(task, 24)
    wanted = run(plan(task, rows, "head-only"), registry, base=base).adapter
    found = run(plan(task, rows, "head-only", cache_memory=0), registry, base=base).adapter
    assert found.manifest["probe"] == wanted.manifest["probe"]
    for name, tensor in wanted.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, atol=1e-5, rtol=1e-5)
    usage = shutil.disk_usage(rows)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TrainingError, match=r"^no disk space for hidden states: "):
        run(plan(task, rows, "head-only", cache_memory=0), registry, base=base)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "deberta-v2", "modernbert"])
def test_layers_are_transformers_hidden_states_and_no_block_above_runs(
    family: str, tiny_folder: Callable[..., Path]
) -> None:
    base = Base.load(str(tiny_folder(family)))
    ids = torch.arange(10).view(2, 5) + 5
    mask = torch.ones_like(ids)
    wanted = base.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    above = list(blocks(base.model).values())
    seen: list[int] = []
    handles = [b.register_forward_hook(lambda m, a, o, i=i: seen.append(i)) for i, b in enumerate(above)]
    for k in range(len(above) + 1):
        seen.clear()
        found = layers_of(base.model, {"input_ids": ids, "attention_mask": mask}, frozenset({k}))[k]
        assert seen == list(range(k))
        expected = wanted[k] if k < len(above) else base.model(ids, attention_mask=mask)[0]
        tolerance.assert_near(found, expected, tolerance.of_base(base))
    for handle in handles:
        handle.remove()


def test_in_a_pool_the_base_runs_no_higher_than_the_highest_probe(
    minilm: Base, registry: Registry, small_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertLayer

    adapters = {f"layer-{k}": probed(minilm, k, seed=k) for k in (2, 4, 6)}
    adapters["layers-1-3"] = probed(minilm, 1, 3, seed=7)
    adapters["layers-0-6"] = probed(minilm, 0, 6, seed=8)
    adapters["lora"] = made.adapter(minilm, task_of(labels=("a", "b", "c")), "lora", seed=1)
    texts = ["a fine film", "rude staff and awful food", "the train was late again"]
    wanted = {name: alone(minilm, adapter, texts) for name, adapter in adapters.items()}
    seen: list[int] = []
    forward = BertLayer.forward

    def counting(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(hidden_states))
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(BertLayer, "forward", counting)
    with Pool(minilm, adapters) as pool:
        for names, rows in (
            (["layer-4"], [3, 3, 3, 3]),
            (["layer-2", "layer-4"], [3, 3, 3, 3]),
            (["layer-2", "layer-6"], [3] * 6),
            (["layers-1-3"], [3] * 3),
            (["layers-1-3", "layer-2", "layers-0-6"], [3] * 6),
            (["layer-2", "lora"], [6] * 6),
        ):
            seen.clear()
            asked = [(text, name) for text in texts for name in names]
            found = pool.outputs([text for text, _ in asked], adapter_of_each=[name for _, name in asked])
            for (text, name), logits in zip(asked, found, strict=True):
                tolerance.assert_near(logits, wanted[name][texts.index(text)], tolerance.of_base(minilm), name)
            assert seen == rows
    assert minilm.changed_tensors() == []


def probed(base: Base, *layers: int, seed: int) -> Adapter:
    """Return an adapter with a random probe of some layers."""
    from adapterkit.options import plain
    from adapterkit.probe.model import ProbeModel

    task = task_of(labels=tuple("abcdefgh"[: 2 + layers[-1] // 2]))
    torch.manual_seed(seed)
    model = ProbeModel(base, task, Form(layers, "mean"))
    head = {name: p.detach() for name, p in model.named_parameters() if name.startswith("probe.")}
    about = {
        "task": {"name": task.name, "options": plain(task)},
        "strategy": {"name": "head-only", "distribution": "adapterkit", "version": "0", "options": {}},
        "probe": {"layers": list(layers), "pooling": "mean"},
        "metrics": {},
    }
    return Adapter.make(base, model, {}, head, about)


def alone(base: Base, adapter: Adapter, texts: list[str]) -> list[np.ndarray]:
    with adapter.attached(base) as model, torch.no_grad():
        return [model(**base.tokenizer([text], return_tensors="pt")).logits[0].numpy() for text in texts]


def test_the_reported_metric_is_that_of_the_saved_adapter(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    chosen = Plan.resolve({"strategy": "head-only", "train_file": str(small_csv), "name": "a", "base": tiny_base.path})
    chosen = Plan.resolve({**chosen.values(), "validation_file": str(small_csv)})
    report = run(chosen, registry, base=tiny_base)
    from adapterkit.data import splits

    measured = evaluate(tiny_base, registry.load("a"), splits.read(str(small_csv)))
    assert measured.metrics.values["accuracy"] == report.metrics["validation"]["accuracy"]
    layers = len(report.adapter.manifest["probe"]["layers"])
    assert report.trained_parameters == 2 * 32 * layers + 2


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_tokenizer_that_pads_on_the_left_changes_nothing(
    family: str,
    rows_of: Callable[..., Path],
    tmp_path: Path,
    registry: Registry,
) -> None:
    import transformers

    from adapterkit.data import splits

    folder = tiny.make(family, tmp_path / "base")
    transformers.AutoTokenizer.from_pretrained(folder, padding_side="left").save_pretrained(folder)
    base, file = Base.load(str(folder)), rows_of("token-classification", 24)
    report = run(plan("token-classification", file, "head-only"), registry, base=base)
    measured = evaluate(base, registry.load("tiny"), splits.read(str(file)))
    assert measured.metrics.values["f1"] == pytest.approx(report.metrics["validation"]["f1"], abs=1e-6)


def test_show_says_what_a_probe_reads(
    adapt: Callable[..., Any], small_csv: Path, tiny_folder: Callable[..., Path]
) -> None:
    common = ("--base", tiny_folder(), "--train-file", small_csv, "--name", "a")
    assert adapt("run", "--strategy", "head-only", *common).exit_code == 0
    shown = adapt("show", "a")
    form = Form.of(Registry(Path("registry.json")).load("a").manifest["probe"])
    layers = ", ".join(map(str, form.layers))
    noun = "layer" if len(form.layers) == 1 else "layers"
    words = " ".join(shown.output.split())  # wrapped beside its topic
    assert f"2 head tensors of a linear probe on {form.pooling} of {noun} {layers}" in words


def test_a_probe_of_tags_is_only_fitted_to_a_frozen_base(
    rows_of: Callable[..., Path], tiny_base: Base, registry: Registry
) -> None:
    chosen = plan("token-classification", rows_of("token-classification", 24), "lora", head="probe")
    with pytest.raises(TrainingError, match="--head probe: the strategy trains parameters of the base, and for token"):
        run(chosen, registry, base=tiny_base)
    assert registry.adapters() == {}


def test_it_cannot_be_merged(tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(
        AdapterError, match="head is a probe, which transformers has no class for; train with --head model"
    ):
        merge(tiny_base, probed(tiny_base, 1, seed=0), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], "a probe must have layers and a pooling, got"),
        ({"layers": [1]}, "a probe must have layers and a pooling, got"),
        ({"layers": [-1], "pooling": "mean"}, r"ascending numbers from 0, got \[-1\]"),
        ({"layers": ["1"], "pooling": "mean"}, r"ascending numbers from 0, got \['1'\]"),
        ({"layers": [True], "pooling": "mean"}, r"ascending numbers from 0, got \[True\]"),
        ({"layers": 1, "pooling": "mean"}, "ascending numbers from 0, got 1"),
        ({"layers": [], "pooling": "mean"}, "ascending numbers from 0, got"),
        ({"layers": [1, 1], "pooling": "mean"}, "ascending numbers from 0, got"),
        ({"layers": [2, 1], "pooling": "mean"}, "ascending numbers from 0, got"),
        ({"layers": [1], "pooling": "median"}, "pooling of a probe must be cls, mean, max or null, got median"),
        ({"layers": [1, 9], "pooling": "mean"}, "the probe reads layer 9"),
        ({"layers": [1], "pooling": None}, "a probe for text-classification can't read each token of layer 1"),
    ],
)
def test_an_odd_probe_is_refused(stored: Any, message: str, tiny_base: Base) -> None:
    adapter = probed(tiny_base, 1, seed=0)
    adapter.manifest["probe"] = stored
    with pytest.raises(AdapterError, match=message), adapter.attached(tiny_base):
        pass
    with pytest.raises(AdapterError, match=message), Pool(tiny_base, {"a": adapter}) as pool:
        pool.predict("x", adapter="a")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "task"),
    [
        (family, task)
        for family, task in PAIRS
        if task in PROBED and family in ("bert", "roberta", "distilbert", "electra", "gpt2")
    ],
)
def test_a_fine_tuning_can_start_from_the_solved_head(
    family: str,
    task: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    tmp_path: Path,
) -> None:
    base = base_for(family, task)
    common = {"learning_rate": 1e-6, "num_train_epochs": 1}
    random, probe = (plan(task, rows_of(task, 24), "lora", head_init=s, **common) for s in ("random", "probe"))
    registries = [Registry(tmp_path / name / "registry.json") for name in ("random", "probe")]
    before = run(random, registries[0], base=base)
    if family == "gpt2" and task in ("text-classification", "multiple-choice"):
        # its classifier asks every token and takes the last one's answer
        with pytest.raises(TrainingError, match="doesn't end in a linear layer over each text"):
            run(probe, registries[1], base=base)
    else:
        notes = Notes()
        report = run(probe, registries[1], base=base, watch=notes)
        best = report.adapter.task.best  # the validation rows are the very rows that it was solved on
        solved = float(notes.heard["head"].partition(f"{best} ")[2].split()[0])
        assert report.history[0][best] == pytest.approx(solved, rel=0.01)
        if task != "question-answering":  # a span of a dozen random words is met by chance
            assert solved > before.metrics["validation"][best]


@pytest.mark.slow
def test_on_the_real_base_it_beats_transformers_head(minilm: Base, registry: Registry) -> None:
    values = {"strategy": "head-only", "dataset": "demo:sentiment", "epochs": 2, "max_train_samples": 120}
    reports = [run(Plan.resolve({**values, "head": h, "name": h}), registry, base=minilm) for h in ("probe", "model")]
    first, second = (r.metrics["test"]["accuracy"] for r in reports)
    assert first > second + 0.1
    assert reports[0].adapter_bytes < 25_000  # the means of four layers for two labels
