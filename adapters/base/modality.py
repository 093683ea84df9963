"""The interface of a modality: what bases with one main input read, and how features become their tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, device

Item = Any
"""One input of a base, hashable and sortable: of tokens, the ids and types of a text."""


class Modality(ABC):
    """The preprocessor of a kind of base, its items, and the tensors that it is called with.

    An item is one input of the base, such as a text; a feature has one, or one for each of several choices. Packages
    provide a modality by an entry point in `adapterkit.modalities`, named as transformers names the main input of its
    bases (`main_input_name`). Tokens are adapterkit's own.
    """

    interface: ClassVar[int] = 1
    name: ClassVar[str]
    """The main input of the bases, as transformers names it."""
    columns: ClassVar[tuple[str, ...]]
    """The columns of features that the base reads."""
    preprocessor_text: ClassVar[str] = "the preprocessor"
    """The preprocessor in errors."""

    def __init__(self, config: Any, preprocessor: Any) -> None:
        """Create the modality of a base with this config of transformers, and with what `load` returned."""
        self.config, self.preprocessor = config, preprocessor

    # ---- the preprocessor

    @classmethod
    @abstractmethod
    def load(cls, path: str, **options: Any) -> Any:
        """Return the preprocessor of a checkpoint; `options` are those of from_pretrained."""

    @abstractmethod
    def digest(self) -> str:
        """Return a digest of the preprocessor: of all that determines the tensors of a row."""

    def content_digest(self) -> str:
        """Return a digest of the preprocessor for manifests, which is independent of how it was saved."""
        return self.digest()

    def check(self, name: str, model: Any) -> None:  # noqa: B027, most have nothing to check
        """Raise `BaseModelError` where the preprocessor doesn't suit the model of the base `name`."""

    def max_length(self, model: Any) -> int | None:
        """Return the maximum number of tokens in a text, or None where there is no limit or there are no tokens."""
        return None

    def head_settings(self) -> dict[str, Any]:
        """Return settings of a task model's config that the preprocessor determines."""
        return {}

    # ---- items

    @abstractmethod
    def items(self, feature: Mapping[str, Any]) -> tuple[Item, ...]:
        """Return the items of a feature: one, or one for each choice."""

    def has_choices(self, feature: Mapping[str, Any]) -> bool:
        """Return whether a feature has an item for each of several choices."""
        return False

    @abstractmethod
    def length(self, item: Item) -> int:
        """Return the number of hidden states of an item, such as its tokens or patches."""

    def shapes(self, features: Dataset) -> list[tuple[int, int]]:
        """Return for each feature how many items it has, and the length of the longest."""
        shapes = []
        columns = features.select_columns([name for name in self.columns if name in features.column_names])
        for feature in columns:
            lengths = [self.length(item) for item in self.items(feature)]
            shapes.append((len(lengths), max(lengths)))
        return shapes

    def lengths(self, features: Dataset) -> list[int]:
        """Return the length of each item, feature by feature."""
        return [longest for _, longest in self.shapes(features)]

    def shortened(self, feature: Mapping[str, Any]) -> dict[str, Any]:
        """Return a feature whose items are as small as `collate` takes, for batches of which only labels are read."""
        return dict(feature)

    # ---- tensors

    @abstractmethod
    def tensors(self, items: Sequence[Item], device: device) -> dict[str, Tensor]:
        """Return the base's arguments for some items, a row for each, padded where lengths differ."""

    @abstractmethod
    def example(self, rows: int, device: device) -> dict[str, Tensor]:
        """Return arguments of some rows for tracing a pass, the same in each call; values needn't mean anything."""

    @abstractmethod
    def mask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return which hidden states of a batch aren't padding, (items, positions), as booleans."""

    def flat(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[int, ...]]:
        """Return arguments with a row for each item, and the shape of the batch: (rows,), or (rows, choices)."""
        return dict(inputs), (len(inputs[self.name]),)
