"""Import an adapter trained with PEFT or sentence-transformers and register it: what `adapt import` runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..convert.peft_import import base_of, imported, task_of
from ..convert.peft_reader import PeftFolder
from ..convert.sentence_import import imported_sentences, is_sentence_folder
from ..errors import OptionError
from ..store.publish import publish
from ..store.registry import Registry, check_name
from ..tasks import SentenceSimilarity
from .registered import folder_bytes

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter


@dataclass(frozen=True)
class Imported:
    """A registered adapter that was trained elsewhere."""

    name: str
    version: str
    folder: str
    adapter: Adapter
    nbytes: int  # of the files in `folder`

    @property
    def base(self) -> str:
        """The name of its base."""
        return str(self.adapter.manifest["base"]["name"])

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        stored = {"name": self.name, "version": self.version, "folder": self.folder}
        return {
            **stored,
            "task": self.adapter.task.name,
            "base": self.base,
            "parameters": self.adapter.manifest["parameters"],
        }


def import_adapter(
    registry: Registry,
    source: str,
    *,
    name: str | None = None,
    task: str | None = None,
    task_options: Mapping[str, Any] | None = None,
    base: str | None = None,
    revision: str | None = None,
) -> Imported:
    """Import the PEFT adapter in a folder or Hub repository, and register it as `name` or by the name of its source.

    Task and base default to those in its adapter_config.json. A folder of SentenceTransformer is imported as what it
    differs by from `base`. Raises `AdapterError` where outputs differ from the original's, or a part of it isn't
    supported.
    """
    name = check_name(name or _default_name(source))
    registry.prepare()
    if is_sentence_folder(source):
        adapter = _of_sentences(source, base, task, task_options)
    else:
        folder = PeftFolder.read(source, revision)
        adapter = imported(folder, base_of(folder, base), task_of(folder, task), task_options or {})
    version = publish(registry, name, adapter).version
    place = registry.folder(name, version)
    return Imported(name, version, str(place), adapter, folder_bytes(place))


def _of_sentences(source: str, base: str | None, task: str | None, options: Mapping[str, Any] | None) -> Adapter:
    """Return the adapter of a SentenceTransformer folder; raises `OptionError` without a base, or for another task."""
    from ..base.base import Base

    if base is None:
        raise OptionError(f"'{source}' is a SentenceTransformer; give --base, the base that it was trained from")
    if task not in (None, SentenceSimilarity.name):
        raise OptionError(f"--task {task}: a SentenceTransformer is imported for {SentenceSimilarity.name}")
    return imported_sentences(source, Base.load(base), options)


def _default_name(source: str) -> str:
    last = Path(source).resolve().name if Path(source).is_dir() else source.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:96]
