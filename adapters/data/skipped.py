"""The rows of a file that were skipped: how many, for which reasons, and where the first ones are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_REASONS = 5
"""The most reasons that a note lists."""
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d[\d.]*")
"""The parts of a reason that differ from row to row: quoted values and numbers."""


@dataclass
class Skipped:
    """The number of skipped rows, the first of them, and by reason how many there are and the first line."""

    count: int = 0
    line: int = 0
    reason: str = ""
    unit: str = "line"
    reasons: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # of the reader

    def add(self, line: int, reason: str) -> None:
        """Count a row; reasons that differ in values alone are counted together, under the first of them."""
        if not self.count:
            self.line, self.reason = line, reason
        self.count += 1
        kind = _VALUES.sub("…", reason)
        same = next((other for other in self.reasons if _VALUES.sub("…", other) == kind), reason)
        self.reasons.setdefault(same, [0, line])[0] += 1

    def note(self, name: str) -> str:
        """Return the count in one line, with the reasons, the most frequent first."""
        rows, first = ("row", "") if self.count == 1 else ("rows", "first ")
        start = f"{self.count:,} bad {rows} skipped in {name}"
        if len(self.reasons) < 2:
            return f"{start}, {first}at {self.unit} {self.line}: {self.reason}"
        frequent = sorted(self.reasons.items(), key=lambda item: -item[1][0])
        texts = [
            f"{reason} ({count:,}, {'first ' if count > 1 else ''}at {self.unit} {line})"
            for reason, (count, line) in frequent
        ]
        more = f"; and {len(texts) - MOST_REASONS} other reasons" if len(texts) > MOST_REASONS else ""
        return f"{start}: {'; '.join(texts[:MOST_REASONS])}{more}"
