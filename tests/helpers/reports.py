"""Inputs written after public reports, and what a run makes of each.

    python -m tests.helpers.reports    # write the outcomes of today, and the table of docs/reference/public-reports.md

Read the differences before they are committed: an outcome is a promise.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from adapterkit import AdapterkitError, Base, Plan
from adapterkit.testing import tiny
from adapterkit.workflows.run import prepare_run
from tests.helpers.files import ROOT

REPORTS = ROOT / "tests" / "fixtures" / "reports.json"
PAGE = ROOT / "docs" / "reference" / "public-reports.md"
BEGIN, END = "<!-- table of reports -->\n", "<!-- end of the table -->\n"


def reports() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(REPORTS.read_text(encoding="utf-8"))
    return listed


def bases(folder: Path) -> dict[str, Base]:
    """Return the small real base, and a tiny causal one for conversations."""
    causal = tiny.make("llama", folder / "llama", head="AutoModelForCausalLM")
    return {"minilm": Base.load("minilm"), "llama": Base.load(str(causal))}


def outcome(report: dict[str, Any], loaded: dict[str, Base], folder: Path) -> dict[str, Any]:
    """Prepare a run on a report's files, in `folder`; return what it reads, or its error."""
    for name, content in report["files"].items():
        data = base64.b64decode(content["base64"]) if isinstance(content, dict) else content.encode()
        (folder / name).write_bytes(data)
    before = os.getcwd()
    os.chdir(folder)
    try:
        plan = Plan.resolve({"strategy": "lora", "train_file": next(iter(report["files"])), **report["options"]})
        setup = prepare_run(plan, base=loaded[report["base"]])
    except AdapterkitError as error:
        return {"error": str(error)}
    finally:
        os.chdir(before)
    row = {name: value for name, value in setup.splits["train"][0].items() if not name.startswith("__")}
    remarks = [line for line in setup.remarks if "validation rows" not in line]
    return {"task": setup.task.name, "reads": setup.task.summary(), "first row": row, "remarks": remarks}


def table(listed: list[dict[str, Any]]) -> str:
    """Return the reports as a table for people."""
    lines = ["| report | what was tried | outcome |", "|---|---|---|"]
    for report in listed:
        repository, number = report["source"].split("#")
        link = f"[{report['source']}](https://github.com/{repository}/issues/{number})"
        lines.append(f"| {link} | {_cell(_tried(report))} | {_cell(_told(report['outcome']))} |")
    return "\n".join(lines) + "\n"


def _tried(report: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in report["options"].items())
    return report["what"] + (f" ({options})" if options else "")


def _told(outcome: dict[str, Any]) -> str:
    if "error" in outcome:
        return f"refused: {outcome['error']}"
    reads = f"{outcome['task']}: {outcome['reads']}" if outcome["reads"] else outcome["task"]
    return "; ".join([f"read as {reads}", *outcome["remarks"]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "\\n")


def main() -> None:
    listed = reports()
    with tempfile.TemporaryDirectory() as root:
        loaded = bases(Path(root))
        for number, report in enumerate(listed):
            folder = Path(root, str(number))
            folder.mkdir()
            report["outcome"] = outcome(report, loaded, folder)
    REPORTS.write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table(listed)}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
