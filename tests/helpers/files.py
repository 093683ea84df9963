"""Write data files; the folder of real data where there is one."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
STRANGERS = ROOT / "tests" / "strangers"
EXAMPLE = ROOT / "examples" / "adapterkit-strategy-example"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def folder(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        write(path / name, f"text\n{name}\n" if name.endswith(".csv") else '[{"text": "x"}]')
    return path
