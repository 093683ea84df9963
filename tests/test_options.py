"""Options become flags and config keys, and say what is wrong with a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from adapterkit.errors import OptionError
from adapterkit.options import build, options, plain


@dataclass(frozen=True, kw_only=True)
class Sample:
    rate: Annotated[float, "how fast", "--speed"]
    count: int = 3
    top: int | None = None
    names: tuple[str, ...] = ()
    how: Literal["sum", "mean"] = "sum"
    loud: bool = False


def test_fields_become_options_with_flags_help_and_spellings() -> None:
    found = options(Sample)
    assert list(found) == ["rate", "count", "top", "names", "how", "loud"]
    assert (found["rate"].flag, found["rate"].help, found["rate"].aliases) == ("--rate", "how fast", ("--speed",))


def test_values_are_converted_and_survive_a_round_trip() -> None:
    values: dict[str, Any] = {"rate": "1e-3", "count": "4", "top": None, "names": "a, b", "how": "mean", "loud": "yes"}
    made = build(Sample, values)
    assert made == Sample(rate=1e-3, count=4, top=None, names=("a", "b"), how="mean", loud=True)
    assert build(Sample, plain(made)) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1.0}, "no option named 'rat'; did you mean 'rate'?"),
        ({}, "--rate is required"),
        ({"rate": "fast"}, "--rate must be a number, got 'fast'"),
        ({"rate": 1.0, "count": 1.5}, "--count must be an integer, got 1.5"),
        ({"rate": 1.0, "count": True}, "--count must be an integer, got True"),
        ({"rate": 1.0, "count": None}, "--count must be an integer, got None"),
        ({"rate": 1.0, "how": "max"}, "--how must be one of sum, mean, got 'max'"),
        ({"rate": 1.0, "loud": "perhaps"}, "--loud must be true or false, got 'perhaps'"),
    ],
)
def test_a_wrong_value_is_said_in_a_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(Sample, values)
    assert message in str(caught.value)


def test_a_field_that_can_not_be_a_flag_is_an_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        table: dict[str, int]

    with pytest.raises(OptionError, match=r"Odd\.table"):
        options(Odd)
