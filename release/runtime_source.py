"""Write the source of the distribution adapterkit-runtime: the same modules, and only what answers need without torch.

    python release/runtime_source.py build/runtime && python -m build build/runtime

`adapterkit` requires torch, and an extra can only add to that, so what brings no torch is a distribution of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIGHT = ("click", "filelock", "huggingface_hub", "lazy_loader", "msgspec", "regex", "rich")
"""What the commands need beside the extra `runtime`; versions are those of pyproject.toml."""
EXTRAS = ("otel", "serve")
"""The extras that work without torch."""
README = """# adapterkit-runtime

adapterkit without torch: `adapt predict --runtime onnx`, `list`, `show`, `pull` and `adapterkit.runtime.OnnxPool`, and
with the extra `serve`, `adapt serve --runtime onnx`.
It has the same modules as the package adapterkit, so install one of the two in an environment.
"""


def project(text: str) -> str:
    """Return pyproject.toml with the name, dependencies and entry points of adapterkit-runtime."""
    known = tomllib.loads(text)["project"]
    light = [line for line in known["dependencies"] if re.split("[><=]", line)[0] in LIGHT]
    lines = "".join(f'    "{line}",\n' for line in sorted([*light, *known["optional-dependencies"]["runtime"]]))
    text = replaced(r'^name = "adapterkit"$', 'name = "adapterkit-runtime"', text)
    text = replaced(
        r'^description = "[^\n]*"$', 'description = "Answers of adapterkit\'s adapters without torch."', text
    )
    text = replaced(r"^dependencies = \[\n.*?^\]$", f"dependencies = [\n{lines}]", text)
    extras = "".join(f"{extra} = {json.dumps(known['optional-dependencies'][extra])}\n" for extra in EXTRAS)
    table = f"[project.optional-dependencies]\n{extras}\n"
    text = replaced(r"^\[project\.optional-dependencies\]\n.*?(?=^\[)", table, text)
    text = replaced(r'^\[project\.entry-points\."adapterkit.*?(?=^\[tool)', "", text)
    text = replaced(r'^"adapterkit\.demo" = .*?\n', "", text)
    return replaced(r"^\[tool\.distutils.*?(?=^\[)", "", text)


def replaced(pattern: str, by: str, text: str) -> str:
    """Replace the one match of a pattern; exit where there is none, or several."""
    text, count = re.subn(pattern, lambda _: by, text, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise SystemExit(f"pyproject.toml: {count} places match {pattern}, expected one")
    return text


def write(target: Path) -> None:
    """Write the source tree of adapterkit-runtime to a folder, which is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("adapters", "plugins", "cli"):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", target)
    (target / "README.md").write_text(README, encoding="utf-8")
    text = project((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (target / "pyproject.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
