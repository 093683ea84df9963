"""Run a batch without padding where that gives the same hidden states, which is found out by comparing them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .context import current
from .layout import Layout
from .rows import take

ATTENTION = "adapterkit_packed"
"""The name of this attention function in transformers' AttentionInterface."""

_LEAST_PADDING = 128  # tokens; below that, a padded pass is as fast
_LEAST_SHARE = 0.05  # of a padded batch that is padding
_ROUNDINGS = 8  # of the largest value, by which hidden states of the two passes may differ at least
_NOISE = 4  # times the difference that padding alone makes


Run = Callable[[Tensor, Tensor, Sequence[int] | None], Tensor]
"""Return a base's hidden states for token ids and mask, in a packed pass where the rows' lengths are passed."""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Attend within each row of a packed batch; in any other batch, as transformers' SDPA does.

    Query, key and value are (tokens, heads, 1, features) in a packed batch, and the output (tokens, 1, heads,
    features). Rows of one length are computed together.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    context = current()
    layout = None if context is None else context.rows.layout
    if layout is None:
        padded: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return padded
    if query.shape[2] != 1 or len(query) != layout.tokens or len(key) != layout.tokens:
        raise NotImplementedError(f"packed attention of queries {tuple(query.shape)} to keys {tuple(key.shape)}")
    if options.get("position_bias") is not None:
        raise NotImplementedError("packed attention with position biases")
    causal = options.pop("is_causal", None)
    causal = getattr(module, "is_causal", True) if causal is None else causal
    output = query.new_empty(layout.tokens, 1, query.shape[1], value.shape[-1])
    for index, group in enumerate(layout.groups):
        mask = None if attention_mask is None else layout.mask(attention_mask, index)
        is_causal = mask == "causal" if isinstance(mask, str) else attention_mask is None and causal
        states = [
            take(x, group.tokens).reshape(len(group.rows), group.length, *x.shape[1::2]).transpose(1, 2)
            for x in (query, key, value)
        ]
        attended, _ = sdpa_attention_forward(
            module, *states, None if isinstance(mask, str) else mask, is_causal=is_causal, **options
        )
        output[group.tokens] = attended.reshape(-1, 1, *attended.shape[2:])
    return output, None


def register() -> None:
    """Register `attention` with transformers, with the masks that SDPA has."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def run_packed(layout: Layout, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return the output of a block, called with padded arguments, computed for the packed tokens of its rows."""
    args, kwargs = layout.packed_arguments(args, kwargs)
    output = forward(*args, **kwargs)
    if not isinstance(output, tuple):
        return layout.padded(output)
    if any(isinstance(value, Tensor) for value in output[1:]):
        raise NotImplementedError("a packed block returned further tensors beside the hidden states")
    return (layout.padded(output[0]), *output[1:])


def has_padding(lengths: Sequence[int]) -> bool:
    """Return whether a padded batch of rows of these lengths has so much padding that a packed one is faster."""
    total = len(lengths) * max(lengths)
    return total - sum(lengths) >= max(_LEAST_PADDING, _LEAST_SHARE * total)


class Packing:
    """Which rows a base can compute without padding: compared once for each power of two up to which rows are long.

    Models whose attention isn't transformers' AttentionInterface with SDPA are never packed, nor those whose packed
    hidden states differ from the padded ones.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._equal: dict[int, bool] = {}
        self._lock = threading.Lock()

    def allows(self, lengths: Sequence[int], run: Run) -> bool:
        """Return whether rows of these lengths can be packed, and have enough padding for it."""
        return min(lengths) > 0 and has_padding(lengths) and self.equals_padded(max(lengths), run)

    def equals_padded(self, length: int, run: Run) -> bool:
        """Return whether packed rows of up to `length` tokens have the hidden states of padded ones."""
        bound = 1 << max(4, (length - 1).bit_length())
        with self._lock:
            if bound not in self._equal:
                self._equal[bound] = self._compared(length, run)
            return self._equal[bound]

    def _compared(self, longest: int, run: Run) -> bool:
        config = self._model.config
        attention = getattr(config, "_attn_implementation", None)
        if attention not in ("sdpa", ATTENTION) or config.is_encoder_decoder:
            return False
        register()
        config._attn_implementation = ATTENTION
        try:
            equal = self._differs_by_rounding(longest, run)
        except Exception:  # whatever a model does with a batch that it wasn't written for, it can't be packed
            equal = False
        if not equal:
            config._attn_implementation = attention  # that of shorter rows, where these can be packed
        return equal

    def _differs_by_rounding(self, longest: int, run: Run) -> bool:
        """Return whether packing changes hidden states by no more than rounding, measured by what padding changes."""
        lengths = (longest, longest // 2 + 1, 2, longest // 2 + 1)
        ids = _token_ids(self._model, len(lengths), longest)
        mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long().to(ids.device)
        with torch.inference_mode():
            alone = [run(ids[i : i + 1, :n], mask[i : i + 1, :n], None)[0] for i, n in enumerate(lengths)]
            padded, packed = (run(ids, mask, of_packed) for of_packed in (None, lengths))
        noise, difference = (
            max(float((hidden[i, :n] - alone[i]).abs().max()) for i, n in enumerate(lengths))
            for hidden in (padded, packed)
        )
        largest = max(float(hidden.abs().max()) for hidden in alone)
        return difference <= max(_NOISE * noise, _ROUNDINGS * torch.finfo(packed.dtype).eps * largest)


def _token_ids(model: Any, rows: int, length: int) -> Tensor:
    """Return different token ids, (rows, length), none of which is a special one of low number."""
    vocabulary = model.get_input_embeddings().num_embeddings
    lowest = min(10, vocabulary // 2)
    ids: Tensor = torch.arange(rows * length).view(rows, length) * 7919 % (vocabulary - lowest) + lowest
    moved: Tensor = ids.to(model.device)
    return moved
