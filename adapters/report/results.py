"""The results of a comparison or of registered adapters as JSON.

`python -m adapterkit.report.results` prints the schema. A page is made from such a file and from nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from ..errors import DataError
from ..io.atomic import json_bytes
from ..io.schema import decoded
from ..io.untrusted import read_file

FORMAT = 1
"""Changes where a reader of earlier files would misread them."""
_MOST = 64 << 20  # bytes of a results file that is read

Number = float | None
"""A number, or null where it is not a number or infinite."""


class Measured(Struct, omit_defaults=True):
    """Metrics on the rows of a split."""

    values: Annotated[dict[str, Number], Meta(description="Each metric by name.")]
    intervals: Annotated[dict[str, tuple[Number, Number]], Meta(description="Its 95 % bootstrap interval.")]
    n: int


class Difference(Struct, omit_defaults=True):
    """A metric minus that of the best candidate, over the same resampled rows."""

    value: Number
    low: Number
    high: Number
    same: Annotated[bool, Meta(description="Whether the interval includes 0: the two can't be distinguished.")]


class Costs(Struct, omit_defaults=True):
    """What a candidate costs, measured in the same process."""

    seconds: Annotated[Number, Meta(description="Of training, shared hidden states included.")] = None
    saved: Annotated[Number, Meta(description="Of these, not spent because hidden states were shared.")] = None
    memory: Annotated[Number, Meta(description="Peak growth of memory in training, bytes.")] = None
    bytes: Annotated[Number, Meta(description="Of the adapter's tensors.")] = None
    parameters: Annotated[Number, Meta(description="Learned numbers.")] = None
    rate: Annotated[Number, Meta(description="Rows a second in a pool, in batches of its own.")] = None
    rate_beside: Annotated[Number, Meta(description="Rows a second in batches beside 31 others like it.")] = None


class Tried(Struct, omit_defaults=True):
    """A trial of a search."""

    options: dict[str, Any]
    state: str
    score: Number = None
    seconds: Number = None


class Candidate(Struct, omit_defaults=True):
    """A strategy, a baseline or an adapter, and its results."""

    name: str
    kind: Literal["strategy", "baseline", "adapter"]
    error: Annotated[str, Meta(description="Why there is no result; empty where there is one.")] = ""
    command: Annotated[str, Meta(description="What trains it again.")] = ""
    registered: Annotated[str, Meta(description="NAME@VERSION in the registry, or empty.")] = ""
    options: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    metrics: dict[str, Measured] = field(default_factory=dict)
    differences: Annotated[dict[str, Difference], Meta(description="By split, of the metric that ranks.")] = field(
        default_factory=dict
    )
    costs: Costs = field(default_factory=Costs)
    history: Annotated[list[dict[str, Number]], Meta(description="Training loss and metrics, by epoch.")] = field(
        default_factory=list
    )
    trials: list[Tried] = field(default_factory=list)
    tables: Annotated[dict[str, Any], Meta(description="Analyses of the predictions, by name.")] = field(
        default_factory=dict
    )


class Answer(Struct, omit_defaults=True):
    """What a candidate answers to a row."""

    text: str
    score: Annotated[Number, Meta(description="Its probability, where the task has one.")] = None
    right: bool | None = None
    others: Annotated[dict[str, Number], Meta(description="Probabilities, the highest first.")] = field(
        default_factory=dict
    )
    words: Annotated[
        list[tuple[str, float]],
        Meta(description="Words with input times gradient of the answer, the largest magnitude 1; of some errors."),
    ] = field(default_factory=list)


class Row(Struct, omit_defaults=True):
    """A row that was measured, and every candidate's answer."""

    line: int
    text: str
    expected: str
    answers: list[Answer | None]
    groups: Annotated[dict[str, str], Meta(description="The slices that it is part of.")] = field(default_factory=dict)


class Results(Struct, omit_defaults=True):
    """A comparison of strategies, or an evaluation of adapters."""

    format: int
    title: str
    answer: Annotated[list[str], Meta(description="The result in sentences, the first one the answer.")]
    task: str
    metric: Annotated[str, Meta(description="The metric that ranks.")]
    lower_is_better: bool
    split: Annotated[str, Meta(description="Whose rows were measured last: test, else validation.")]
    candidates: Annotated[list[Candidate], Meta(description="The best first.")]
    rows: Annotated[list[Row], Meta(description="A sample of the rows of the split.")]
    measured: Annotated[int, Meta(description="Rows of the split.")]
    best: str = ""
    recommended: str = ""
    labels: list[str] = field(default_factory=list)
    ran: Annotated[dict[str, Any], Meta(description="Command, base, data, versions and machine.")] = field(
        default_factory=dict
    )

    def plain(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        values: dict[str, Any] = json.loads(self.encoded())
        return values

    def encoded(self) -> bytes:
        """Return the results as JSON."""
        return json_bytes(msgspec.to_builtins(self))


def read_results(path: str | Path) -> Results:
    """Read a results file; raises `DataError` where it isn't one."""
    try:
        data = read_file(Path(path), most=_MOST)
        results = decoded_results(data)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(f"'{path}' is no results file of adapterkit: {error}") from error
    if results.format != FORMAT:
        raise DataError(f"'{path}' has format {results.format}; this version reads format {FORMAT}")
    return results


def decoded_results(data: bytes | bytearray) -> Results:
    """Return results from their JSON; raises `msgspec.MsgspecError` where it isn't that of results."""
    results: Results = decoded(data, Results)
    return results


def json_schema() -> str:
    """Return the JSON Schema of a results file."""
    schema = msgspec.json.schema(Results)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
