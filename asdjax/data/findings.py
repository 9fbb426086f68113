"""Findings of a check, as text of 80 columns and as JSON."""

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from asdjax.data.clips import Domain, Label, Layout, Split
from asdjax.runtime import text_table
from asdjax.runtime.text_table import WIDTH

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

#: Number of places that the text names for findings that are alike. The JSON has all.
EXAMPLES = 3

#: Parts in which findings may differ and still be alike: numbers and quoted text.
_VARIABLE = re.compile(r"""('[^']*'|"[^"]*"|\d+(?:[.,]\d+)*)""")

_COLUMNS = ("machine type", "section", "split", "domain")
_NAMES_WIDTH = 32  # of machine type and section together
_LABELS = (("normal", "normal"), ("anomaly", "anomaly"), (None, "unlabelled"))


@dataclass(frozen=True, slots=True)
class Finding:
    """Problem at a file, a table row or a section, with a remedy.

    Training refuses a machine type with an error. A warning costs quality. A note only informs. `machine` is the
    machine type, "" for a problem of the whole corpus.
    """

    severity: Severity
    where: str
    what: str
    remedy: str
    machine: str


@dataclass(frozen=True, slots=True)
class Count:
    """Number of clips with the same machine type, section, split, domain and label (None: unknown)."""

    machine: str
    section: str
    split: Split
    domain: Domain | None
    label: Label | None
    clips: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a check: the counts in the order of the corpus, and all findings, errors first."""

    layout: Layout
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings with the severity "error"."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def as_json(result: CheckResult) -> dict[str, Any]:
    """Return the whole result in JSON types, with the number of findings of each severity."""
    severities = Counter(finding.severity for finding in result.findings)
    return {
        "layout": result.layout,
        "clips": sum(count.clips for count in result.counts),
        **{f"{severity}s": severities[severity] for severity in SEVERITIES},
        "counts": [asdict(count) for count in result.counts],
        "findings": [asdict(finding) for finding in result.findings],
    }


def format_table(result: CheckResult, width: int = WIDTH) -> str:
    """Format the counts per machine type, section, split, domain and label, then the findings.

    Findings that are alike share an entry; `as_json` has each one. Lines of the table have at most 80 characters, lines
    of findings at most `width`. Only a long path may exceed that.
    """
    clips = sum(count.clips for count in result.counts)
    lines = [f"{result.layout}, {clips} clip{'' if clips == 1 else 's'}", "", _format_counts(result.counts), ""]
    return "\n".join([*lines, *_format_findings(result.findings, min(width, WIDTH)), _format_summary(result.findings)])


def _format_counts(counts: Sequence[Count]) -> str:
    rows: dict[tuple[str, ...], dict[str | None, int]] = defaultdict(dict)
    for count in counts:
        rows[count.machine, count.section, count.split, count.domain or "-"][count.label] = count.clips
    machine, section = (max(len(texts[i]) for texts in (_COLUMNS, *rows)) for i in (0, 1))
    machine = min(machine, max(_NAMES_WIDTH - section, _NAMES_WIDTH // 2))
    table: list[tuple[str, ...]] = [(*_COLUMNS, *(name for _, name in _LABELS))]
    for (machine_type, section_name, *others), numbers in rows.items():
        names = text_table.cut(machine_type, machine), text_table.cut(section_name, _NAMES_WIDTH - machine)
        table.append((*names, *others, *(str(numbers.get(label, 0)) for label, _ in _LABELS)))
    return text_table.format_table(table, WIDTH, left=len(_COLUMNS))


def _format_findings(findings: Sequence[Finding], width: int) -> Iterator[str]:
    kinds: dict[tuple, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.severity, _constant_parts(finding.what), _constant_parts(finding.remedy)].append(finding)
    for alike in kinds.values():
        what, remedy = (_merge_texts(texts) for texts in zip(*((f.what, f.remedy) for f in alike), strict=True))
        yield from _wrap(f"{alike[0].severity}: {what}", width, "", "  ")
        yield from _wrap(remedy if remedy.startswith("nothing to do") else f"to do: {remedy}", width, "  ", "    ")
        for finding in alike[:EXAMPLES]:
            details = "" if finding.what == what else f": {finding.what}"
            yield from _wrap(f"{finding.where}{details}", width, "  - ", "    ")
        if len(alike) > EXAMPLES:
            yield f"  and {len(alike) - EXAMPLES} more: --json lists all"
        yield ""


def _constant_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a text outside numbers and quotes."""
    return tuple(_VARIABLE.split(text)[::2])


def _merge_texts(texts: Sequence[str]) -> str:
    """Merge texts with the same constant parts, with … for parts that differ."""
    parts = zip(*map(_VARIABLE.split, texts), strict=True)
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


def _format_summary(findings: Sequence[Finding]) -> str:
    numbers = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in numbers.items())
