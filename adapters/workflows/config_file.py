"""Read options from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..io.untrusted import read_file

if TYPE_CHECKING:
    pass


def read_config(path: str) -> dict[str, Any]:
    """Read option values from a YAML file.

    Raises `OptionError` for a missing file, or one that holds no mapping.
    """
    try:
        return _option_values(Path(path).read_bytes(), f"--config {path}")
    except OSError as error:
        raise OptionError(f"--config {path}: {error.strerror}") from error


def read_list(path: str) -> list[dict[str, Any]]:
    """Read a list of option values from a YAML file, those of one run each. Raises `OptionError`."""
    what = f"--each {path}"
    try:
        values = _yaml(Path(path).read_bytes(), what)
    except OSError as error:
        raise OptionError(f"{what}: {error.strerror}") from error
    if not isinstance(values, list) or not values or not all(isinstance(entry, dict) for entry in values):
        raise OptionError(f"{what}: expected a list with the options of each run, such as - train_file: a.csv")
    return [_normalized(entry) for entry in values]


def read_run(path: Path) -> dict[str, Any]:
    """Read the option values of a run from its run.yaml, which may be anyone's. Raises `OptionError`."""
    try:
        return _option_values(read_file(path), f"'{path}'")
    except (OSError, ValueError) as error:
        raise OptionError(f"'{path}' can't be read: {error}") from error


def _option_values(data: bytes | bytearray, what: str) -> dict[str, Any]:
    values = _yaml(data, what)
    if not isinstance(values, dict):
        raise OptionError(f"{what}: expected pairs of option: value, got a {type(values).__name__}")
    return _normalized(values)


def _yaml(data: bytes | bytearray, what: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(bytes(data).decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise OptionError(f"{what} is not YAML: {' '.join(str(error).split())}") from error


def _normalized(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key).replace("-", "_"): value for key, value in values.items()}
