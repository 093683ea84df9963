"""A task of a stranger's, of a kind that adapterkit has none of: several attributes of a text at once.

Each attribute has values of its own. The head is no class of transformers: attention pooling, a hidden layer, and a
linear map for each attribute. Loss, metrics, answers and what the linear probe fits are its own, too.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from adapterkit.errors import DataError, OptionError
from adapterkit.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Attributes(Task):
    """Tell the value of each of several attributes of a text."""

    name: ClassVar[str] = "attributes"
    best: ClassVar[str] = "all_right"
    probe_unit: ClassVar[str] = "text"
    label_options: ClassVar[frozenset[str]] = Task.label_options | {"attributes", "values"}

    text_column_name: Annotated[str, "column of the text", "--text-column"] = "text"
    attributes: Annotated[tuple[str, ...], "columns of the attributes"] = ()
    values: Annotated[tuple[str, ...], "values of each attribute, as color=red|green"] = ()

    @classmethod
    def fits(cls, first):
        return "text" in first and len(first) > 2

    def with_columns(self, names):
        there = [name for name in names if not name.startswith("__")]
        attributes = self.attributes or tuple(name for name in there if name != self.text_column_name)
        return replace(self, attributes=attributes)

    def describe_columns(self):
        return f"{self.text_column_name} -> {' + '.join(self.attributes)}"

    def summary(self):
        return "; ".join(self.values)

    def check(self, data, file):
        for name in (self.text_column_name, *self.attributes):
            for line, value in zip(data["__line__"], data[name], strict=True):
                if not value:
                    raise DataError(f"{file}:{line}: {name} is empty")

    def fit(self, train):
        values = tuple(f"{name}={'|'.join(sorted(set(train[name])))}" for name in self.attributes)
        return replace(self, values=self.values or values)

    @property
    def kinds(self):
        """The values of each attribute, by attribute."""
        pairs = [text.partition("=") for text in self.values]
        return {name: values.split("|") for name, _, values in pairs}

    def matching_head(self, count, names):
        if set(self.kinds) != set(self.attributes):
            raise OptionError(f"values={','.join(self.values)}: values of {', '.join(self.attributes)} were expected")
        return self

    def rows(self, texts):
        return {self.text_column_name: list(texts)}

    def config(self):
        return {
            "num_labels": sum(map(len, self.kinds.values())),
            "attribute_sizes": list(map(len, self.kinds.values())),
        }

    def head(self, config):
        from adapterkit_attributes_head import AttributesHead

        return AttributesHead(config.hidden_size, config.attribute_sizes)

    def tokenize(self, rows, tokenizer, *, labelled):
        texts = list(map(str, rows[self.text_column_name]))
        features = dict(tokenizer(texts, truncation=True, max_length=self.max_seq_length))
        if labelled:
            features["labels"] = self._targets(rows)
        return features

    def _targets(self, rows):
        columns = [[kinds.index(str(value)) for value in rows[name]] for name, kinds in self.kinds.items()]
        return [list(row) for row in zip(*columns, strict=True)]

    def collate(self, tokenizer, model):
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def loss(self, model, batch, *, label_smoothing=0.0):
        from torch.nn.functional import cross_entropy

        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        parts = logits.split(list(map(len, self.kinds.values())), -1)
        losses = [
            cross_entropy(part, target, label_smoothing=label_smoothing)
            for part, target in zip(parts, batch["labels"].to(logits.device).unbind(-1), strict=True)
        ]
        return sum(losses) / len(losses)

    def loss_weight(self, batch):
        return float(len(batch["labels"]))

    def _split(self, predictions):
        """Return the logits of each attribute, (rows, values)."""
        import numpy as np

        ends = np.cumsum(list(map(len, self.kinds.values())))[:-1]
        return dict(zip(self.kinds, np.split(np.stack(predictions), ends, axis=-1), strict=True))

    def metrics(self, predictions, data):
        import numpy as np

        from adapterkit.metrics import bootstrap

        guess = np.stack([logits.argmax(-1) for logits in self._split(predictions).values()], -1)
        right = guess == np.array(self._targets({name: data[name][:] for name in self.attributes}))

        def scores(weights):
            shares = weights @ right / weights.sum(-1, keepdims=True)
            each = dict(zip(self.attributes, shares.T, strict=True))
            return {"all_right": weights @ right.all(-1) / weights.sum(-1), **each}

        return bootstrap.measure(len(right), scores)

    def answers(self, predictions, data, tokenizer):
        columns = {name: logits.argmax(-1) for name, logits in self._split(predictions).items()}
        return [
            {name: self.kinds[name][int(columns[name][i])] for name in self.attributes} for i in range(len(predictions))
        ]

    def headline(self, answer):
        return " ".join(answer.values())

    def probe_targets(self, labels, counts, choices):
        import torch
        from torch.nn.functional import one_hot

        sizes = map(len, self.kinds.values())
        return torch.cat([one_hot(t, n) for t, n in zip(labels["labels"].unbind(-1), sizes, strict=True)], -1).float()
