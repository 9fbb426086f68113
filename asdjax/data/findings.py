"""What a check found, and how people (80 columns) and programs (JSON) read it."""

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from asdjax.data.clips import Domain, Label, Layout, Split

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

WIDTH = 80
EXAMPLES = 3
"""Places named of findings that are alike; the rest is counted, and is in the JSON."""

_VARIES = re.compile(r"""('[^']*'|"[^"]*"|\d+(?:[.,]\d+)*)""")
"""What findings that are alike may differ in: numbers, and what is quoted."""

_COLUMNS = ("machine type", "section", "split", "domain")
_NAMES_WIDTH = 32
"""Characters that machine type and section share."""
_LABELS = (("normal", "normal"), ("anomaly", "anomaly"), (None, "unlabelled"))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about `where`.

    `train` refuses an error; a warning costs quality; a note informs.
    """

    severity: Severity
    where: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many clips have all of these in common; None where nothing says."""

    machine: str
    section: str
    split: Split
    domain: Domain | None
    label: Label | None
    clips: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is there, in the corpus's order, and every finding, errors first."""

    layout: Layout
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")


def as_json(result: CheckResult) -> dict[str, Any]:
    """The whole result in JSON's types; counts of findings by severity under their names."""
    severities = Counter(finding.severity for finding in result.findings)
    return {
        "layout": result.layout,
        "clips": sum(count.clips for count in result.counts),
        **{f"{severity}s": severities[severity] for severity in SEVERITIES},
        "counts": [asdict(count) for count in result.counts],
        "findings": [asdict(finding) for finding in result.findings],
    }


def format_table(result: CheckResult, width: int = WIDTH) -> str:
    """Counts per machine type, section, split, domain and label, then the findings, alike ones together.

    No line is longer than 80 characters, and of findings none longer than a narrower terminal's `width`, but for what a
    long path needs. `as_json` has every finding singly.
    """
    clips = sum(count.clips for count in result.counts)
    lines = [f"{result.layout}, {clips} clips", "", *_count_lines(result.counts), ""]
    return "\n".join([*lines, *_finding_lines(result.findings, min(width, WIDTH)), _summary(result.findings)])


def _count_lines(counts: Sequence[Count]) -> Iterator[str]:
    rows: dict[tuple[str, ...], dict[str | None, int]] = defaultdict(dict)
    for count in counts:
        rows[count.machine, count.section, count.split, count.domain or "-"][count.label] = count.clips
    machine, section, *others = (max(map(len, cells)) for cells in zip(_COLUMNS, *rows, strict=True))
    machine = min(machine, max(_NAMES_WIDTH - section, _NAMES_WIDTH // 2))
    widths = [machine, min(section, _NAMES_WIDTH - machine), *others]
    yield _row(_COLUMNS, widths, [name for _, name in _LABELS])
    for texts, numbers in rows.items():
        yield _row(texts, widths, [str(numbers.get(label, 0)) for label, _ in _LABELS])


def _row(texts: Sequence[str], widths: Sequence[int], numbers: Sequence[str]) -> str:
    left = [_cut(text, width).ljust(width) for text, width in zip(texts, widths, strict=True)]
    right = [text.rjust(len(name)) for text, (_, name) in zip(numbers, _LABELS, strict=True)]
    return "  ".join([*left, *right])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _finding_lines(findings: Sequence[Finding], width: int) -> Iterator[str]:
    kinds: dict[tuple, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.severity, _wording(finding.what), _wording(finding.remedy)].append(finding)
    for alike in kinds.values():
        what, remedy = (_in_common(texts) for texts in zip(*((f.what, f.remedy) for f in alike), strict=True))
        yield from _wrap(f"{alike[0].severity}: {what}", width, "", "  ")
        yield from _wrap(f"to do: {remedy}", width, "  ", "    ")
        for finding in alike[:EXAMPLES]:
            own = "" if finding.what == what else f": {finding.what}"
            yield from _wrap(f"{finding.where}{own}", width, "  - ", "    ")
        if len(alike) > EXAMPLES:
            yield f"  and {len(alike) - EXAMPLES} more: --json lists all"
        yield ""


def _wording(text: str) -> tuple[str, ...]:
    """All of a text but what varies."""
    return tuple(_VARIES.split(text)[::2])


def _in_common(texts: Sequence[str]) -> str:
    """Texts of one wording as one, with … for what differs."""
    parts = zip(*map(_VARIES.split, texts), strict=True)
    return "".join(part[0] if len(set(part)) == 1 else "…" for part in parts)


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
    )


def _summary(findings: Sequence[Finding]) -> str:
    numbers = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in numbers.items())
