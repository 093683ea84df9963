"""Start a training so that the first token, which transformers' heads read, has the mean of a text's tokens.

The first token of a base that was trained on that mean, as most of sentence-transformers were, holds little: a head of
it alone, trained on 16 texts a label, is near chance (docs/explanation/strategies-compared.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base.tracing import forward_arguments, record, replicate
from ..features.feed import Feed
from ..modules import blocks
from ..probe import few_texts
from .inputs import features_of
from .stages import Prepared

_BLOCKS = 2
_TEXTS = 64
_PENALTY = 1e-3


def starts_from_mean(run: Prepared) -> bool:
    """Return whether rows are few, the head is transformers' own, and the base was trained on the mean of tokens."""
    few = few_texts.supports(run.task) and few_texts.few_a_label(run.task, len(run.data["train"]))
    own_head = run.task.new_head and run.options.head != "probe" and run.options.head_init != "random"
    return few and own_head and run.base.quantization == "no" and run.base.sentence_pooling == "mean"


def attend_alike(run: Prepared, model: Any) -> bool:
    """Let the first token attend to all tokens alike in the two upper blocks; return whether any was changed.

    Its query there becomes about 0: a rank-1 update of the map to queries, minus their mean times a direction that only
    the first token's hidden state has. It is written to LoRA's factors, or else to the weight, where these are trained.
    """
    features = features_of(run, splits=("train",))["train"]
    feed = Feed(features, run.task.collate(run.base.tokenizer, model), run.base.modality)
    batch = {k: v.to(run.base.model.device) for k, v in feed.batch(range(min(_TEXTS, len(feed)))).items()}
    inputs = {k: v for k, v in batch.items() if k not in run.task.label_names}
    changed = [
        str(number)
        for number, query in _queries(run.base.model, inputs["input_ids"][:, :1]).items()
        if _set_to_zero(query, model, inputs)
    ]
    if changed:
        run.watch.note(
            "start",
            f"the first token attends to all tokens alike in block{'s' * (len(changed) > 1)} {', '.join(changed)}",
        )
    return bool(changed)


def _queries(base: Any, first: Tensor) -> dict[int, nn.Module]:
    """Return the maps to queries of the upper blocks by number, counted from 1, where they are trained and found.

    `first` is the id of the first token of each text, (texts, 1). A map is one to queries if the attention of the first
    token depends on the other tokens, and no longer does where the map's output for it is 0.
    """
    twin = replicate(base, {})  # transformers leaves hooks in a model that returned its attention
    try:
        twin.set_attn_implementation("eager")
    except (AttributeError, ValueError):
        return {}
    others = torch.arange(1, 15, device=first.device).view(2, 7) % base.get_input_embeddings().num_embeddings
    ids = torch.cat([first[:1].expand(2, 1), others], 1)
    queries: dict[int, nn.Module] = {}
    for number, (name, block) in list(enumerate(blocks(base).items(), 1))[-_BLOCKS:]:
        if _attends_alike(twin, ids, number):
            continue
        for candidate in _candidates(base, name, block):
            with _without_first(twin.get_submodule(candidate)):
                is_query = _attends_alike(twin, ids, number)
            if is_query:
                queries[number] = base.get_submodule(candidate)
                break
    return queries


def _candidates(base: Any, name: str, block: nn.Module) -> Iterator[str]:
    """Yield the names of a block's square linear maps whose weight or whose LoRA factors are trained."""
    width = base.config.hidden_size
    for path, module in block.named_modules(prefix=name):
        linear = getattr(module, "base_layer", module)
        square = isinstance(linear, nn.Linear) and (linear.in_features, linear.out_features) == (width, width)
        if square and (getattr(module, "lora_A", None) or (linear is module and linear.weight.requires_grad)):
            yield path


def _attends_alike(model: Any, ids: Tensor, number: int) -> bool:
    """Return whether the first token's attention in a block is the same in both texts of `ids`, (2, tokens)."""
    with torch.no_grad():
        output = model(
            **forward_arguments(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}),
            output_attentions=True,
        )
    attentions = getattr(output, "attentions", None)
    if not attentions or len(attentions) < number:
        return False
    first = attentions[number - 1][:, :, 0]  # (texts, heads, tokens)
    return torch.allclose(first[0], first[1], atol=1e-4)


@contextlib.contextmanager
def _without_first(module: nn.Module) -> Iterator[None]:
    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(output[:, :1]), output[:, 1:]], 1)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _set_to_zero(query: Any, model: Any, inputs: Mapping[str, Tensor]) -> bool:
    """Add the rank-1 update that sets the mean of the first tokens' queries to 0; False where there is none."""
    recorded, _ = record(lambda: model(**inputs), inputs={"x": query})
    x = recorded["x"][0] if isinstance(recorded["x"], tuple) else recorded["x"]
    tokens = x[inputs["attention_mask"].bool()].double()
    firsts = x[:, 0].double()
    layer = getattr(query, "base_layer", query)
    mean = nn.functional.linear(
        firsts, layer.weight.double(), None if layer.bias is None else layer.bias.double()
    ).mean(0)
    # least squares: 1 for first tokens, 0 for others
    gram = tokens.T @ tokens
    gram += _PENALTY * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    direction = torch.linalg.solve(gram, firsts.sum(0))
    if not torch.isfinite(direction).all() or not direction.norm():
        return False
    if layer is query:
        query.weight -= torch.outer(mean, direction).to(query.weight)
        return True
    down, up = query.lora_A["default"].weight, query.lora_B["default"].weight
    factor = direction.norm() / down[0].norm()  # so that the row is as long as it was
    down[0] = (direction / factor).to(down)
    up[:, 0] = (-mean * factor / query.scaling["default"]).to(up)
    for magnitude in query.lora_magnitude_vector.values():  # DoRA's, of which the update is no more than that
        magnitude.weight.copy_(torch.linalg.norm(layer.weight + query.scaling["default"] * up @ down, dim=1))
    return True
