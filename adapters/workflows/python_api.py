"""The calls of the Python API: train by keywords, and load what was trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.rows import memory_splits
from ..data.splits import Splits
from ..errors import OptionError
from ..store.registry import Registry
from ..watch import Watch
from . import run as runs
from .adapted_model import AdaptedModel
from .config_file import read_config
from .plan import Plan
from .progress import auto_watch
from .run import Report

if TYPE_CHECKING:
    from ..base.base import Base

BASE_OPTIONS = ("revision", "trust_remote_code", "quantization")
"""The options of a base that a loaded one answers by itself."""


def run(
    plan: Plan | None = None,
    registry: Registry | str | os.PathLike[str] | None = None,
    *,
    base: Base | str | os.PathLike[str] | None = None,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    resume: bool = False,
    watch: Watch | Literal["auto"] | None = "auto",
    **options: Any,
) -> Report:
    """Train, evaluate, save and register an adapter, as `adapt run` does; `options` are the names of its flags.

    >>> ak.run(strategy="head-only", train_file="reviews.csv", name="again", watch=None)
    <Report again@...: accuracy 0.8... (cross-validation, 64 rows), 12.5 kB, ... s>

    Rows come from files (`train_file`, `dataset`, ...) or from memory: `train`, `validation` and `test` are each a
    `datasets.Dataset`, a pandas DataFrame, an Arrow table or a list of dicts. `registry` is a path, by default
    $ADAPT_REGISTRY or ./registry.json. `base` is a name, or a loaded base to share between runs. `config` holds further
    options, as a mapping or a YAML file; keywords take precedence. Progress is shown in a terminal and in a notebook;
    `watch=None` silences it. Raises an `AdapterkitError`; then nothing was written.

    `run(plan, registry)` carries out a `Plan` in silence, unless a `Watch` is passed.
    """
    opened, base = _registry(registry), _base(base)
    if watch not in (None, "auto") and not isinstance(watch, Watch):
        raise OptionError(f"watch must be a Watch, 'auto' or None, got {watch!r}")
    if plan is not None:
        if not isinstance(plan, Plan):
            raise OptionError(f"run takes options by keyword, as in strategy='lora', or a Plan; got {plan!r}")
        if options or config is not None or not (train is validation is test is None):
            extra = next(iter(options), "config" if config is not None else "train")
            raise OptionError(f"run takes a Plan or options, got both: a Plan and {extra}=")
        if isinstance(base, str):
            raise OptionError(f"a Plan names its base; base= takes a loaded one here, got '{base}'")
        return runs.run(plan, opened, base=base, resume=resume, watch=None if watch == "auto" else watch)
    values = {**options, **_base_options(base, options)}
    values = {key: value for key, value in values.items() if value is not None}
    rows = {"train": train, "validation": validation, "test": test}
    in_memory = any(split is not None for split in rows.values())
    resolved = Plan.resolve(values, config=_config_values(config), in_memory={} if in_memory else None)
    splits = memory_splits(rows, resolved.data) if in_memory else None
    if splits is not None:
        resolved = replace(resolved, in_memory=_recorded(splits))
    return runs.run(resolved, opened, base=_loaded(base), splits=splits, resume=resume, watch=_watch(watch))


def load(
    adapter: str | os.PathLike[str],
    *,
    registry: Registry | str | os.PathLike[str] | None = None,
    base: Base | str | os.PathLike[str] | None = None,
    allow_base_mismatch: bool = False,
) -> AdaptedModel:
    """Load an adapter by `name`, `name@tag` or `name@version`, or from its folder by a `Path`, and its base.

    >>> ak.load("reviews").predict("lovely food")
    {'label': 'positive', 'score': 0.9...}

    `base` is where the base is now, or one that is loaded already; by default it is loaded from where it was in
    training. Raises `RegistryError` for an unknown name and `AdapterError` where the base is another one.
    """
    from ..adapter.adapter import Adapter
    from ..base.base import Base

    opened, base = _registry(registry), _base(base)
    if not isinstance(adapter, str | os.PathLike):
        raise OptionError(f"adapter must be a name, or a Path to a folder, got {type(adapter).__name__} {adapter!r}")
    if isinstance(adapter, os.PathLike):
        name, version, read = Path(adapter).name, None, Adapter.load(Path(adapter))
    else:
        name, version = opened.resolve(adapter)
        read = opened.load(f"{name}@{version}")
    stated = read.manifest["base"]
    if not isinstance(base, Base):
        base = Base.from_manifest(stated, opened.locate(stated["name"]) if base is None else base)
    if allow_base_mismatch:
        read = read.moved_to(base)
    read.check_base(base)
    return AdaptedModel(name, version, read, base)


def _registry(registry: Registry | str | os.PathLike[str] | None) -> Registry:
    return registry if isinstance(registry, Registry) else Registry.at(registry)


def _base(base: Base | str | os.PathLike[str] | None) -> Base | str | None:
    """Return a base, or its name or folder as a text."""
    from ..base.base import Base

    if base is None or isinstance(base, str | Base):
        return base
    if isinstance(base, os.PathLike):
        return os.fspath(base)
    raise OptionError(f"base must be a name, a folder or a loaded Base, got {type(base).__name__} {base!r}")


def _loaded(base: Base | str | None) -> Base | None:
    return None if isinstance(base, str) else base


def _base_options(base: Base | str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that describe a base, so that run.yaml names the one that was used."""
    if base is None or isinstance(base, str):
        return {"base": base}
    if twice := [key for key in BASE_OPTIONS if options.get(key) is not None]:
        raise OptionError(f"{twice[0]}={options[twice[0]]!r} is an option for a base by name; base= is loaded already")
    return {"base": base.name, **{key: getattr(base, key) for key in BASE_OPTIONS}}


def _config_values(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    if not isinstance(config, str | os.PathLike):
        raise OptionError(
            f"config must be a mapping or the path of a YAML file, got {type(config).__name__} {config!r}"
        )
    return read_config(os.fspath(config))


def _recorded(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return what run.yaml records of rows in memory: how many there are, and their digest."""
    return {split: {"rows": len(rows), "sha256": splits.fingerprints[split]} for split, rows in splits.sets.items()}


def _watch(watch: Watch | Literal["auto"] | None) -> Watch | None:
    return auto_watch() if watch == "auto" else watch
