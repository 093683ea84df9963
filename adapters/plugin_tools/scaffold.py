"""Generate the package of a new strategy, with tests and CI; one file of it is to be edited."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from ..discovery import all_plugins
from ..errors import PluginError, file_errors_as
from ..io.atomic import new_folder

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "adapterkit-$name"
version = "0.1.0"
description = "The strategy $name for adapterkit."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["adapterkit>=0.1"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."adapterkit.strategies"]
$name = "$module:$cls"

[tool.setuptools]
py-modules = ["$module"]
""",
    "$module.py": '''\
"""$cls: only the biases of the base learn (BitFit, Ben Zaken et al. 2021, arXiv:2106.10199). Change it to yours."""

from dataclasses import dataclass
from typing import Annotated

from adapterkit import Strategy


@dataclass(frozen=True, kw_only=True)
class $cls(Strategy):
    """Train the biases of the base."""

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 1e-2
    without: Annotated[str, "leave out biases of modules whose name contains this"] = ""

    def apply(self, base):
        names = [name for name, _ in base.named_parameters() if name.endswith("bias")]
        return [base.get_parameter(name) for name in names if not (self.without and self.without in name)]
''',
    "test_$module.py": '''\
"""The strategy fulfils adapterkit's contract."""

from adapterkit.testing import contract

Test$cls = contract("$name", families=["bert", "roberta", "gpt2"])  # llama and t5 have no biases to learn
''',
    "README.md": """\
# adapterkit-$name

The strategy `$name` for adapterkit.

    pip install -e '.[test]'
    pytest
    adapt run --strategy $name --help
    adapt run --strategy $name
""",
    ".github/workflows/test.yml": """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install torch --index-url https://download.pytorch.org/whl/cpu
      - run: pip install -e '.[test]'
      - run: pytest
""",
}
"""Templates of the package's files by path: `$name` of the strategy, `$module` of its file, `$cls` of its class."""


def scaffold(name: str, parent: Path) -> Path:
    """Write the package of a new strategy into `parent`/adapterkit-NAME and return that folder.

    Raises `PluginError` for an invalid name, one that is installed, a folder that exists, or a failed write, which
    leaves nothing behind.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 64:
        raise PluginError(f"a strategy's name has lower-case letters, digits and -, as in bit-fit; got '{name}'")
    twin = next((plugin for plugin in all_plugins() if plugin.name == name), None)
    if twin is not None:
        raise PluginError(f"strategy {twin.label} is installed already; choose another name")
    folder = parent / f"adapterkit-{name}"
    if folder.exists():
        raise PluginError(f"'{folder}' exists; choose another name or another folder")
    cls = "".join(part.capitalize() for part in name.split("-"))
    words = {"name": name, "module": f"adapterkit_{name.replace('-', '_')}", "cls": cls}
    with file_errors_as(PluginError), new_folder(folder) as temporary:
        for path, text in FILES.items():
            file = temporary / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    return folder
