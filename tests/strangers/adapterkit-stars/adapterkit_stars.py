"""A task of a stranger's: how many stars a text gives, where one off is half right."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from adapterkit.tasks.text_classification import TextClassification


@dataclass(frozen=True, kw_only=True)
class Stars(TextClassification):
    """Choose a number of stars for a text."""

    name: ClassVar[str] = "stars"

    tolerance: Annotated[int, "so many stars off are near"] = 1

    def metrics(self, predictions, data):
        found = super().metrics(predictions, data)
        labels = [self.labels.index(str(label)) for label in data[self.label_column_name]]
        off = [abs(int(p.argmax()) - label) for p, label in zip(predictions, labels, strict=True)]
        near = sum(o <= self.tolerance for o in off) / len(off)
        return replace(found, values={**found.values, "near": near})
