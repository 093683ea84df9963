"""Write the source of the site: pages of docs/ and of the repository's root, examples, and the generated reference.

    python docs/site/stage.py build/site build/html          # then: mkdocs build --strict -f build/site/mkdocs.yml

A page has its place in the site by `place`; links between pages are changed accordingly. The menu is that of
docs/README.md.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
import reference

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<text>\[[^]\[]*\])\((?P<target>[^)\s]+)\)|(?P<attribute>src|srcset|href)=\"(?P<value>[^\"]+)\"")
EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*\n(?:(?P=indent)(?! *\"\"\")\S.*\n)*", re.MULTILINE)
"""An example of a docstring with its output, to the next empty line."""
ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LANGUAGES = {
    ".py": "python",
    ".sh": "sh",
    ".ipynb": "notebook",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".html": "html",
}
MOST = 100_000
"""The largest example in bytes that is shown as a page."""


def place(path: str) -> str:
    """Return where a file of the repository is in the site."""
    if path == "README.md":
        return "index.md"
    if path == "docs/README.md":
        return "contents.md"
    if path.startswith("examples/") or path == "examples":
        if (ROOT / path).is_dir():
            return f"{path}/index.md"
        if path.endswith("/README.md"):
            return f"{posixpath.dirname(path)}/index.md"
        return path if path.endswith(".md") or Path(path).suffix not in LANGUAGES else f"{path}.md"
    return path.removeprefix("docs/")


def sources() -> list[str]:
    """Return the pages of the repository that the site has."""
    pages = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    return ["README.md", *ROOT_PAGES, *pages]


def moved(text: str, page: str) -> str:
    """Return a page with its links changed to the places of the site; code blocks stay."""
    here = posixpath.dirname(page)
    from_place = posixpath.dirname(place(page))
    files = known()

    def link(match: re.Match[str]) -> str:
        target = match["target"] or match["value"]
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        file, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(here, file))
        if path not in files:  # the site has no page for it
            return match["text"][1:-1] if match["text"] else match[0]
        new = f"{posixpath.relpath(place(path), from_place or '.')}{mark}{anchor}"
        return f"{match['text']}({new})" if match["text"] else f'{match["attribute"]}="{new}"'

    return outside_fences(text, lambda part: LINK.sub(link, part))


def known() -> set[str]:
    """Return the paths of the repository that have a place in the site."""
    figures = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*") if path.is_file()]
    return {*sources(), *figures, *examples()}


def examples() -> list[str]:
    """Return the files and folders of examples/."""
    found = [path for path in sorted((ROOT / "examples").rglob("*")) if shown(path)]
    return ["examples", *(path.relative_to(ROOT).as_posix() for path in found)]


def shown(path: Path) -> bool:
    """Return whether a path of examples/ is shown: no build's output, and nothing hidden but a workflow."""
    parts = path.relative_to(ROOT).parts
    return not any(
        part in ("__pycache__", "build", "node_modules", "dist") or part.endswith(".egg-info") for part in parts
    )


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change what is outside of a page's fenced code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def example_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each example: a script's source, or a folder's README and the list of its files."""
    for path in examples():
        file = ROOT / path
        if file.is_dir():
            names = [name for name in examples() if posixpath.dirname(name) == path]
            readme = file / "README.md"
            text = moved(readme.read_text(encoding="utf-8"), f"{path}/README.md") if readme.exists() else f"# {path}\n"
            rows = [f"- [`{name[len(path) + 1 :]}`]({posixpath.relpath(place(name), path)})" for name in names]
            rows = [row for row in rows if "README.md`" not in row]
            yield place(path), text.rstrip() + "\n\n## Files\n\n" + "\n".join(rows) + "\n"
        elif file.suffix in LANGUAGES and file.stat().st_size < MOST:
            source = file.read_text(encoding="utf-8").rstrip()
            fenced = f"# {path}\n\n````{LANGUAGES[file.suffix]}\n{source}\n````\n"
            yield place(path), moved(notebook(source), path) if file.suffix == ".ipynb" else fenced


def notebook(source: str) -> str:
    """Return a notebook as Markdown: its text, its cells, and what they printed or returned."""
    parts = []
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            shown = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            if output.get("name") != "stderr" and shown.strip():
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def staged() -> dict[str, str]:
    """Return every page of the site by its place."""
    pages = {place(page): moved((ROOT / page).read_text(encoding="utf-8"), page) for page in sources()}
    pages["index.md"] = f"---\nhide: [navigation]\n---\n{pages['index.md']}"  # it has one entry, the page itself
    return {**pages, **dict(example_pages()), **reference.pages()}


# ---- the menu


def menu(pages: dict[str, str]) -> list[Any]:
    """Return the menu: the sections of docs/README.md, each page by its first heading, and the generated reference."""
    sections: dict[str, list[Any]] = {}
    title = ""
    for line in pages["contents.md"].splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif title:
            links = [target.partition("#")[0] for _, target in re.findall(r"\[([^]]*)\]\(([^)\s]+)\)", line)]
            entries = sections.setdefault(title, [])
            entries += [page for page in links if page in pages and page not in entries]
    sections["Reference"] += [
        {"Python API": below(pages, "reference/api")},
        {"Commands": below(pages, "reference/commands")},
        {"Strategies, one by one": below(pages, "reference/strategy")},
        {"Tasks, one by one": below(pages, "reference/task")},
    ]
    sections["Examples"] = [page for page in pages if page.startswith("examples/") and page.count("/") < 2]
    sections["Examples"] += [{folder: below(pages, f"examples/{folder}")} for folder in example_folders(pages)]
    project = ["contents.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
    return [
        {"Start": "index.md"},
        *({name: entries} for name, entries in sections.items() if entries),
        {"Project": project},
    ]


def example_folders(pages: dict[str, str]) -> list[str]:
    """Return the folders of examples/."""
    return sorted({page.split("/")[1] for page in pages if page.startswith("examples/") and page.count("/") > 1})


def below(pages: dict[str, str], folder: str) -> list[str]:
    """Return the pages of a folder, its index first."""
    names = [name for name in pages if posixpath.dirname(name) == folder]
    return sorted(names, key=lambda name: (not name.endswith("index.md"), names.index(name)))


def write_versions(public: Path) -> None:
    """List the built versions for the site's menu of versions, and lead the folder's start page to the newest."""
    names = sorted((path.name for path in public.iterdir() if path.is_dir()), key=_numbers, reverse=True)
    versions = [{"version": name, "title": name, "aliases": ["latest"] if name == names[0] else []} for name in names]
    (public / "versions.json").write_text(json.dumps(versions) + "\n", encoding="utf-8")
    redirect = f'<!doctype html><meta http-equiv="refresh" content="0; url={names[0]}/index.html">\n'
    (public / "index.html").write_text(redirect, encoding="utf-8")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def write_sources(target: Path, pages: dict[str, str]) -> None:
    """Write the pages, the files that they show, and the package whose docstrings are read."""
    for name, text in pages.items():
        (target / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (target / "docs" / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "docs/figures", target / "docs/figures")
    shutil.copytree(ROOT / "docs/site/theme", target / "docs/theme")
    for file in (ROOT / "docs").glob("*.json"):
        shutil.copy(file, target / "docs")
    for path in examples():
        if (ROOT / path).is_file() and place(path) not in pages:
            (target / "docs" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target / "docs" / path)
    for source, package in (("adapters", ""), ("plugins", "plugins"), ("cli", "cli")):
        for file in (path for path in (ROOT / source).rglob("*") if path.suffix in (".py", ".pyi")):
            copy = target / "source/adapterkit" / package / file.relative_to(ROOT / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(fenced_examples(file.read_text(encoding="utf-8")), encoding="utf-8")


def fenced_examples(source: str) -> str:
    """Return a module whose examples of docstrings are fenced, as Markdown needs it."""
    text = EXAMPLE.sub(lambda m: f"{m['indent']}```pycon\n{m[0].rstrip()}\n{m['indent']}```\n", source)
    return text.replace("  # doctest: +SKIP", "")


def main() -> None:
    target, public = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(target, ignore_errors=True)
    site = public.resolve() / version("adapterkit")
    site.mkdir(parents=True, exist_ok=True)
    write_versions(public)
    pages = staged()
    write_sources(target, pages)
    config = (ROOT / "docs/site/mkdocs.yml").read_text(encoding="utf-8")
    config += yaml.safe_dump({"nav": menu(pages), "site_dir": str(site)}, sort_keys=False)
    (target / "mkdocs.yml").write_text(config, encoding="utf-8")
    print(f"{len(pages)} pages")


if __name__ == "__main__":
    main()
