"""The cached trunk: the same losses as without, from memory, from a file, and kept between runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit import Base, Plan, Registry, run
from adapterkit.base.tokens import Tokens
from adapterkit.errors import TrainingError
from adapterkit.features import cache
from adapterkit.features.hidden_states import HiddenStates
from adapterkit.tasks import TASKS
from adapterkit.testing import tiny
from adapterkit.training import steps, trunk, trunk_cache
from adapterkit.training import train as training
from tests.helpers import tolerance
from tests.helpers.bases import same, state
from tests.helpers.families import ON, tried
from tests.helpers.task_plans import plan
from tests.helpers.watches import Notes

CUTS = {"head-only": {"head": "model"}, "layerwise": {"top": 1}}


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[float], Notes]]:
    """Return a function that trains and returns the losses step by step, and what was said."""

    def of(chosen: Plan, base: Base, folder: Path) -> tuple[list[float], Notes]:
        found: list[list[float]] = []
        train = training.train

        def watched(*args: Any, **kwargs: Any) -> Any:
            trained = train(*args, **kwargs)
            found.append(trained.losses)
            return trained

        notes = Notes()
        with monkeypatch.context() as patched:
            patched.setattr(training, "train", watched)
            run(chosen, Registry(folder / "registry.json"), base=base, watch=notes)
        return found[0], notes

    return of


def computed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the trunk be computed at every step, in eval mode as it is when it is kept."""

    def cached(base: Base, model: Any, task: Any, fit: Any, feeds: Any, *_: Any) -> Any:
        found = trunk.find_trunk(base, model, task, fit)
        return (None if isinstance(found, str) else found), feeds

    monkeypatch.setattr(steps, "cache_trunk", cached)


@pytest.mark.product
@pytest.mark.parametrize(
    ("family", "task", "strategy"),
    [  # of BERT all of them; of the others half, in which each has its turn
        (family, task, strategy)
        for f, family in enumerate(tiny.CONFIGS)
        for t, task in enumerate(TASKS)
        for s, strategy in enumerate(CUTS)
        if tried(family, task) and ((family == "bert" and task not in ON) or (f + t + s) % 2 == 0)
    ],
)
def test_losses_are_those_of_a_trunk_that_is_computed_at_every_step(
    family: str,
    task: str,
    strategy: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = base_for(family, task)
    before = state(base)
    start = {"num_train_epochs": 2, "batch_size": 5, "head_init": "random"}  # a solved head makes it a steep valley
    chosen = plan(task, rows_of(task), strategy, **start, **CUTS[strategy])
    kept, notes = losses(chosen, base, tmp_path)
    if task == "fill-mask":
        assert notes.heard["trunk"] == "not cached: fill-mask draws new inputs in every epoch"
        return
    assert "run once over" in notes.heard["trunk"], notes.heard["trunk"]
    with monkeypatch.context() as patched:
        computed(patched)
        own, _ = losses(chosen, base, tmp_path)
    assert len(kept) == len(own) >= 8
    assert kept == pytest.approx(own, rel=len(kept) * tolerance.TINY)
    assert same(state(base), before)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "gpt2", "t5"])
def test_blocks_of_the_trunk_run_once_over_the_rows(
    family: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = base_for(family, "text-classification")
    names = list(trunk.trace(base.model, base.modality).blocks)
    seen: dict[str, int] = dict.fromkeys(names, 0)
    epoch = steps.Steps.learn
    handles = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        for name in names:  # what lies in a block is called where the block runs, and not where it is stood in for
            inner = next(base.model.get_submodule(name).children())
            inner = next(inner.children(), inner) if isinstance(inner, torch.nn.ModuleList) else inner

            def called(module: Any, args: Any, output: Any, name: str = name) -> None:
                seen[name] += 1

            handles.append(inner.register_forward_hook(called))
        try:
            return epoch(*args, **kwargs)
        finally:
            while handles:
                handles.pop().remove()

    monkeypatch.setattr(steps.Steps, "learn", watched)
    top = f"{len(names) - 1}"
    chosen = plan("text-classification", rows_of("text-classification"), "layerwise", num_train_epochs=2, layers=top)
    run(chosen, Registry(tmp_path / "registry.json"), base=base)
    firsts = {names[0], next((n for n in names if n.startswith("decoder")), names[0])} if family == "t5" else set()
    assert {name for name, count in seen.items() if count} == {names[-1], *firsts}


def test_a_lora_in_upper_blocks_alone_leaves_a_trunk(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
) -> None:
    base = base_for("bert", "text-classification")
    modules = "encoder.layer.2.attention.self.query"
    chosen = plan("text-classification", rows_of("text-classification"), "lora", num_train_epochs=2)
    _, notes = losses(chosen, base, tmp_path)
    assert notes.heard["trunk"] == "not cached: the lowest block, or a layer below it, trains"
    upper = plan(
        "text-classification", rows_of("text-classification"), "lora", num_train_epochs=2, target_modules=modules
    )
    _, notes = losses(upper, base, tmp_path)
    assert notes.heard["trunk"].startswith("2 of 3 blocks run once over 32 texts")


@pytest.mark.parametrize(("epochs", "more", "reason"), [(1, {}, "in one epoch"), (2, {"cache_trunk": "off"}, "off")])
def test_it_says_why_it_keeps_nothing(
    epochs: int,
    more: dict[str, Any],
    reason: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
) -> None:
    chosen = plan("text-classification", rows_of("text-classification"), "layerwise", num_train_epochs=epochs, **more)
    _, notes = losses(chosen, base_for("bert", "text-classification"), tmp_path)
    assert reason in notes.heard["trunk"]


def test_asked_for_where_there_is_none_it_is_an_error(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
) -> None:
    chosen = plan("text-classification", rows_of("text-classification"), "full", cache_trunk="on")
    with pytest.raises(TrainingError, match="--cache-trunk on: the lowest block, or a layer below it, trains"):
        run(chosen, registry, base=base_for("bert", "text-classification"))
    assert registry.adapters() == {}


# ---- where it is kept


def test_beyond_its_memory_it_is_kept_in_a_file_that_has_no_name(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
) -> None:
    import datasets

    base = base_for("bert", "token-classification")
    file = rows_of("token-classification")
    chosen = [plan("token-classification", file, "layerwise", num_train_epochs=2, cache_memory=m) for m in (1.0, 0.0)]
    (inside, said), (outside, other) = (losses(c, base, tmp_path) for c in chosen)
    assert said.heard["trunk"].endswith("in memory")
    assert other.heard["trunk"].endswith("in a file")
    assert inside == outside
    assert not list(Path(datasets.config.HF_DATASETS_CACHE, "adapterkit").glob(".trunk-*"))


def test_on_a_full_disk_it_goes_on_without(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = plan(
        "token-classification", rows_of("token-classification"), "layerwise", num_train_epochs=2, cache_memory=0
    )
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found, notes = losses(chosen, base_for("bert", "token-classification"), tmp_path)
    assert notes.heard["trunk"].startswith("not cached: no disk space: ")
    assert notes.heard["head"].startswith("initialised at random: no disk space for hidden states: ")
    assert len(found) > 0


def test_a_disk_that_fills_up_while_writing_is_an_os_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    states = HiddenStates([4], 8, torch.float32, "/tmp")
    states.close()
    with open("/dev/full", "wb", buffering=0) as states._file, pytest.raises(OSError, match="No space"):
        states.write(np.array([0]), torch.zeros(4, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_file", [False, True])
def test_states_come_back_as_they_went_in(in_file: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 5, (40,), generator=generator).tolist()
    values = [torch.randn(n, 6, generator=generator).to(dtype) for n in counts]
    states = HiddenStates(counts, 6, dtype, tmp_path if in_file else None)
    order = torch.randperm(40, generator=generator).numpy()
    for some in np.array_split(order, 7):
        states.write(some, torch.cat([values[i] for i in some]))
    states.finish()
    assert states.nbytes == sum(counts) * 6 * dtype.itemsize
    asked = np.array([5, 3, 39, 5])
    assert torch.equal(states.read(asked), torch.cat([values[i] for i in asked]))
    assert list(tmp_path.iterdir()) == []


# ---- kept between runs


@pytest.mark.slow
def test_kept_features_are_taken_by_later_runs_with_another_seed_and_head(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
) -> None:
    base = base_for("bert", "token-classification")
    file = rows_of("token-classification")
    common = {"num_train_epochs": 2, "keep_features": True, "top": 1}
    first, notes = losses(plan("token-classification", file, "layerwise", **common), base, tmp_path)
    assert "run once over 32 texts" in notes.heard["trunk"]
    again, notes = losses(plan("token-classification", file, "layerwise", **common), base, tmp_path)
    assert "by an earlier run" in notes.heard["trunk"]
    assert again == first
    _, notes = losses(plan("token-classification", file, "layerwise", **common, seed=7, batch_size=4), base, tmp_path)
    assert "by an earlier run" in notes.heard["trunk"]
    _, notes = losses(plan("token-classification", file, "layerwise", **{**common, "top": 2}), base, tmp_path)
    assert "run once over" in notes.heard["trunk"]


def test_other_texts_another_tokenizer_or_another_base_never_meet_what_was_kept(tmp_path: Path) -> None:
    import datasets

    made = datasets.Dataset.from_dict

    def digest(columns: dict[str, Any]) -> str:
        return cache.digest(made(columns), Tokens.columns)

    ids = [[1, 2, 3], [4, 5]]
    same_ids = digest({"input_ids": ids})
    assert same_ids == digest({"input_ids": ids, "labels": [0, 1]})
    assert same_ids == cache.digest(made({"input_ids": [[9], *ids]}).select([1, 2]), Tokens.columns)
    others = [[[1, 2, 3], [4, 6]], [[1, 2], [3, 4, 5]], [[4, 5], [1, 2, 3]], [[1, 2, 3]]]
    found = {digest({"input_ids": other}) for other in others}
    assert len(found | {same_ids}) == 5
    bases = [Base.load(str(tiny.make("bert", tmp_path / str(seed), seed=seed))) for seed in (0, 1)]
    assert cache.path_of(bases[0].fingerprint, same_ids) != cache.path_of(bases[1].fingerprint, same_ids)


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    file = tmp_path / "kept.safetensors"
    cache.write(file, {"a": torch.arange(100.0)})
    whole = file.read_bytes()
    assert cache.read(file) is not None
    file.write_bytes(whole[:-8])
    assert cache.read(file) is None
    file.write_bytes(whole[:-8] + bytes(8))
    assert cache.read(file) is None
    assert cache.read(tmp_path / "none") is None
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


# ---- beside other options


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "t5"])
@pytest.mark.parametrize("more", [{"mixed_precision": "bf16"}, {"gradient_checkpointing": True}])
def test_bf16_and_checkpointed_activations_have_a_trunk_too(
    family: str,
    more: dict[str, Any],
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    losses: Callable[..., tuple[list[float], Notes]],
    tmp_path: Path,
) -> None:
    base = base_for(family, "text-classification")
    chosen = plan("text-classification", rows_of("text-classification"), "layerwise", num_train_epochs=2, top=1, **more)
    _, notes = losses(chosen, base, tmp_path)
    assert "run once over 32 texts" in notes.heard["trunk"], notes.heard["trunk"]


# ---- what a head reads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "level"),
    [
        ("bert", "pooled"),
        ("roberta", "first"),
        ("distilbert", "first"),
        ("electra", "first"),
        ("modernbert", "first"),
        ("gpt2", "all"),
        ("llama", "all"),
    ],
)
def test_no_more_is_kept_than_the_head_reads(
    family: str,
    level: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels: list[str] = []
    fill = trunk_cache.fill_cache

    def watched(*args: Any, **kwargs: Any) -> Any:
        kept = fill(*args, **kwargs)
        levels.append(kept.level)
        return kept

    monkeypatch.setattr(trunk_cache, "fill_cache", watched)
    chosen = plan("text-classification", rows_of("text-classification"), "head-only", num_train_epochs=2, head="model")
    run(chosen, Registry(tmp_path / "registry.json"), base=base_for(family, "text-classification"))
    assert levels[:2] == [level, level]  # of train and validation; the few that are compared follow
