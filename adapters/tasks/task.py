"""The interface of a task: rows to features, model outputs to metrics and readable answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..errors import TaskError
from ..options import plain
from ..settings import at_least
from .faults import faults_by_check
from .language_modeling import IGNORED
from .losses import sum_of_weights, weighted_loss
from .windows import UNCUT, longest

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, nn

    from ..base.base import Base
    from ..metrics import Metrics

_ANSWERS = {"answer_column_name", "completion_column_name", "target_column_name"}

Rows = Mapping[str, Sequence[Any]]
"""A batch of rows, column by column."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What a base is trained to do. The fields are the task's options, and what `fit` learned from the rows.

    A new kind of task overrides the methods where it differs; no other code depends on which task it is.
    """

    name: ClassVar[str]
    auto_class: ClassVar[str] = ""
    """The class of transformers that builds the head; empty where `head` does."""
    modality: ClassVar[str] = "input_ids"
    """The main input of the bases that the task is for, as transformers names it; see `Modality`."""
    best: ClassVar[str]
    """The metric by which the best epoch is chosen."""
    lower_is_better: ClassVar[bool] = False
    new_head: ClassVar[bool] = True
    """Whether the head is new, and so always trained; a language model's comes with the checkpoint."""
    fixed_features: ClassVar[bool] = True
    """Whether a row has the same features in every epoch; masks are drawn anew."""
    generates: ClassVar[bool] = False
    """Whether answers are texts that `generate` returns."""
    has_choices: ClassVar[bool] = False
    """Whether a row is a text for each of several choices: input_ids of (rows, choices, tokens)."""
    always_windows: ClassVar[bool] = False
    """Whether a row's outputs are a list, one for each of its windows, even where it has only one."""
    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    """The tensors of a batch that only the loss reads."""
    probe_unit: ClassVar[Literal["text", "token"] | None] = None
    """What a linear probe maps to outputs: the vector of a text (or choice), or of a token; None: no probe."""
    peft_task_type: ClassVar[str | None] = None
    """PEFT's name for models of this task, or None where PEFT has none."""
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The usual columns by option, such as {"text_column_name": ("text", "text_pair")}."""
    cuts_prompts: ClassVar[bool] = True
    """Whether rows to predict are cut behind `max_seq_length` tokens."""
    also_reads: ClassVar[tuple[str, ...]] = ()
    """Columns that the task reads where rows have them, and that no option names."""
    metadata: ClassVar[tuple[str, ...]] = ()
    """Columns of usual layouts that the task has no use for."""

    label_options: ClassVar[frozenset[str]] = frozenset(
        {"labels", "label_column_name", "label_weights", "class_weight", "problem_type", "threshold", "label_separator"}
    )
    """The options that don't change how a text is tokenized."""
    newer_options: ClassVar[frozenset[str]] = frozenset()
    """The options that a manifest lacks where they have their default, because earlier versions don't have them."""

    max_seq_length: Annotated[
        int,
        "cut inputs after this many tokens (default: by the training rows and the base, at least 128)",
        "--max-length",
    ] = 128

    def __post_init__(self) -> None:
        at_least(self, 8, "max_seq_length")

    @property
    def input_columns(self) -> list[str]:
        """The columns that a row needs for a prediction."""
        names: list[str] = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("column_name") and f.name not in self.label_options and f.name not in _ANSWERS and value:
                names += [value] if isinstance(value, str) else value
        return names

    @property
    def optional_columns(self) -> frozenset[str]:
        """The input columns that rows may lack; an absent one is read as empty."""
        return frozenset()

    @property
    def columns_read(self) -> list[str]:
        """The columns that training and evaluation read: inputs, labels and answers."""
        chosen = [getattr(self, f.name) or () for f in fields(self) if f.name.endswith("column_name")]
        return [*self.also_reads, *(n for value in chosen for n in ([value] if isinstance(value, str) else value))]

    def parses(self, column: str, cell: str) -> bool:
        """Return whether a cell that is JSON is read as what it holds, whatever types the column has."""
        return False

    @property
    def tokenize_key(self) -> tuple[Any, ...]:
        """A key that is equal for tasks whose `rows` and `prompts` are the same functions."""
        return type(self), *(getattr(self, f.name) for f in fields(self) if f.name not in self.label_options)

    def recorded(self) -> dict[str, Any]:
        """Return the options as JSON values for a manifest."""
        newer = {f.name for f in fields(self) if f.name in self.newer_options and getattr(self, f.name) == f.default}
        return {name: value for name, value in plain(self).items() if name not in newer}

    # ---- columns and rows

    @classmethod
    @abstractmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        """Return whether a file with this first row is for the task, by its columns and values."""

    @classmethod
    def default_columns(cls) -> tuple[str, ...]:
        """Return the columns to expect where no option names any, as for an imported adapter."""
        return tuple(names[0] for names in cls.usual_columns.values())

    @abstractmethod
    def with_columns(self, names: Sequence[str]) -> Self:
        """Return the task with its columns among `names`, by option or guess; `DataError` where one is missing."""

    def check_named(self) -> None:
        """Raise `TaskError` where the task, as in anyone's adapter, names no column to read."""
        if not self.input_columns:
            raise TaskError(f"the task {self.name} names no column to read")

    @abstractmethod
    def describe_columns(self) -> str:
        """Return which columns are read as what: `text -> label`."""

    def summary(self) -> str:
        """Return the possible outputs in a few words, such as the labels."""
        return ""

    def fit(self, train: Dataset) -> Self:
        """Return the task with what it needs from the training rows, such as the labels."""
        return self

    @abstractmethod
    def check(self, data: Dataset, file: str) -> None:
        """Raise `DataError`, with file and line, for the first row that the task can't use."""

    def faults(self, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
        """Yield the number in `data` of each row that `check` refuses, and the reason."""
        return faults_by_check(self.check, data, file)

    def labels_by_row(self, data: Dataset) -> Iterator[Sequence[str]]:
        """Yield the labels of each row; nothing where the task has no labels."""
        return iter(())

    def label_remarks(self, train: Dataset, file: str) -> list[str]:
        """Return what looks like a mistake in the labels of the training rows, a line each."""
        return []

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        """Return what the task reads differently from the file, counted, and what looks like a mistake, a line each.

        The rows were checked, and the task is fitted.
        """
        return []

    def strata(self, data: Dataset) -> list[str] | None:
        """Return what to stratify a split by, a value per row, or None."""
        return None

    @abstractmethod
    def rows(self, texts: Sequence[str]) -> Rows:
        """Return plain texts as a batch of rows without labels; raises `DataError` where one lacks a field."""

    def accepts(self, column: str, value: Any) -> str | None:
        """Return what an input column should hold, such as "a text", where `value` is something else, else None."""
        return None if isinstance(value, str) else "a text"

    def requested(self, row: Any) -> Any:
        """Return a row that a server was sent as the task reads it. Raises `DataError` for the path of a file."""
        return row

    def may_be_empty(self, column: str) -> bool:
        """Return whether a row to predict may have nothing in an input column."""
        return False

    # ---- the model

    def check_base(self, base: Base) -> None:  # noqa: B027, most tasks run on any base that has a head for them
        """Raise `TaskError` where a base doesn't suit the task."""

    def for_base(self, base: Base) -> Self:
        """Return the task with what the base's files determine, such as how tokens become a vector."""
        return self

    def config(self) -> dict[str, Any]:
        """Return the settings of the model's config that the head needs."""
        return {}

    def model_inputs(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the model's arguments for a batch of `collate`."""
        return batch

    def head(self, config: Any) -> nn.Module:
        """Return a new head for a model's config, for a task without `auto_class`.

        The module maps last hidden states, (texts, tokens, features), and their mask, (texts, tokens), to logits.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither auto_class nor head()")

    @property
    def head_key(self) -> str:
        """A key that is equal for tasks whose heads have the same modules and shapes."""
        kind = self.auto_class or f"{type(self).__module__}.{type(self).__qualname__}"
        shapes = {key: value for key, value in self.config().items() if key not in ("id2label", "label2id")}
        return json.dumps([kind, shapes], sort_keys=True, default=str)

    def model(self, base: Base, *, untied: bool = False) -> Any:
        """Return the model of the task on a shared base; `untied` copies output embeddings that are tied to it.

        Raises `TaskError` where there is no such head for the base's architecture.
        """
        if self.auto_class:
            return base.task_model(self.auto_class, untied=untied, **self.config())
        from ..base.head_model import with_head

        return with_head(base, self.head, self.config())

    def unshared_model(self, base: Base) -> Any:
        """Load the base again under a new head of the task: a plain model for other libraries, such as PEFT."""
        from ..base.head_model import unshared

        return unshared(base, self.auto_class, None if self.auto_class else self.head, self.config())

    def matching_head(self, count: Callable[[], int], names: Mapping[int, str]) -> Self:
        """Return the task for a trained head from elsewhere, such as with a label for each of its outputs.

        `count` returns the number of outputs, read from the head's tensors; `names` are the base's labels. Raises
        `AdapterError` where the head has another number of outputs than the task.
        """
        return self

    @property
    def head_starts_solved(self) -> bool:
        """Whether training starts from a head solved as a linear probe, unless --head-init decides."""
        return False

    # ---- features

    @abstractmethod
    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return the features of a batch of rows, unpadded; keys that `collate` drops remain for `predictions`.

        Where a row may become several features, or rows are packed, `row` is the number of a feature's row.
        """

    @property
    def reads_windows(self) -> bool:
        """Whether texts of more than `max_seq_length` tokens are read in windows instead of being cut."""
        return self.always_windows

    def lengths(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, list[int]]:
        """Return the tokens of each row before it is cut, by the option that limits them, such as max_seq_length.

        Without `labelled`, the rows are to be predicted. Empty where no text is cut, or where rows are packed.
        """
        if self.always_windows:
            return {}
        uncut = replace(self, max_seq_length=UNCUT)
        features = uncut.tokenize(rows, tokenizer, labelled=False) if labelled else uncut.prompts(rows, tokenizer)
        ids, count = features["input_ids"], len(next(iter(rows.values()), ()))
        return {"max_seq_length": [longest(row) for row in ids]} if len(ids) == count else {}

    def prompts(self, rows: Rows, tokenizer: Any) -> dict[str, Any]:
        """Return the features of rows to predict."""
        return self.tokenize(rows, tokenizer, labelled=False)

    @abstractmethod
    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return a function that pads a list of features to one batch of tensors, all of them model arguments."""

    # ---- outputs

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch, by default the model's own."""
        if not label_smoothing:
            loss: Tensor = model(**batch).loss
            return loss
        return weighted_loss(model, batch, None, label_smoothing)

    def loss_weight(self, batch: Mapping[str, Tensor]) -> float:
        """Return what `loss` is a mean over, for the mean of processes: rows, or the sum of the weights of labels."""
        labels = batch.get("labels")
        if labels is None or labels.is_floating_point():
            return float(len(next(iter(batch.values()))))
        return sum_of_weights(labels[labels != IGNORED], getattr(self, "label_weights", ()))

    @property
    def outputs_key(self) -> Hashable:
        """A key that is equal for tasks whose `outputs` are the same function."""
        return type(self)

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return the model's output for each feature of a batch, as numpy values: by default its logits."""
        inputs = {key: value for key, value in batch.items() if key not in self.label_names}
        return list(model(**inputs).logits.float().cpu().numpy())

    def outputs_of(self, arrays: Mapping[str, Any]) -> list[Any]:
        """Return what `outputs` does from the fields of a model's output as arrays, for a model that isn't torch's."""
        return list(arrays["logits"])

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        """Return a prediction per row (per feature, where rows are packed) from what `outputs` returned."""
        return list(outputs)

    def calibrate(self, predictions: Sequence[Any], data: Dataset) -> Self:
        """Return the task with what is chosen on the validation rows after training, such as a threshold."""
        return self

    @abstractmethod
    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        """Return the metrics of predictions against the labels of `data`."""

    def tables(self, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
        """Return further tables of an evaluation, such as a confusion matrix."""
        return {}

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        """Return a readable answer for each row of `data`."""
        raise NotImplementedError

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        """Return each row's possible answers, the best first, with the keys of transformers' pipelines."""
        return [[answer] for answer in self.answers(self.predictions(outputs, features, data), data, tokenizer)]

    def headline(self, answer: Mapping[str, Any]) -> Any:
        """Return the part of an answer that is written where there is one cell for it."""
        return next(iter(answer.values()))

    # ---- the linear probe

    def probe_outputs(self, config: Any) -> int:
        """Return how many outputs a linear probe has for each of its vectors."""
        return int(config.num_labels)

    def probe_output(self, scores: Tensor, mask: Tensor, choices: int | None, config: Any, **labels: Any) -> Any:
        """Return a probe's scores as the output of the task's model, with a loss where there are `labels`.

        `scores` are (texts, outputs), or (texts, tokens, outputs) where the probe reads tokens; of `choices` texts a
        row where there are several.
        """
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(logits=scores)

    def probe_targets(self, labels: Mapping[str, Tensor], counts: Sequence[int], choices: int | None) -> Tensor:
        """Return labels as the numbers that ridge regression fits, (vectors, outputs), to compare what a probe reads.

        `counts` are the vectors of each text.
        """
        from torch.nn.functional import one_hot

        target = labels["labels"]
        if target.is_floating_point():
            return target.float().view(len(target), -1)
        flat = target.flatten()
        kinds = int(self.config().get("num_labels", flat.max() + 1))
        return one_hot(flat.clamp(min=0), kinds).float() * (flat >= 0)[:, None]  # negative: of no training row

    # ---- generation

    @property
    def generation(self) -> dict[str, Any]:
        """The default options of `generate`, such as the number of beams."""
        return {}

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any, **options: Any) -> list[str]:
        """Return a text for each prompt of a padded batch; `options` override those of `generation`."""
        raise NotImplementedError

    def references(self, data: Dataset) -> list[str] | None:
        """Return the expected text of each row, or None where there is none."""
        return None
