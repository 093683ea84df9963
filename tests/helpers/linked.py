"""Packages that are importable from their source, with the entry points of their pyproject.toml, without pip."""

from __future__ import annotations

import tomllib
from pathlib import Path


def linked(source: Path, folder: Path) -> list[Path]:
    """Write the metadata of a package to `folder`, and return the folders to put on the path: that one and the source.

    What pip does with a package is tested where packages are installed; this takes a millisecond.
    """
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    points = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in each.items()) for group, each in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    return [folder, source]
