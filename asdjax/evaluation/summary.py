"""Summary of an evaluation: the table of systems, the faults that they find, and the warnings, from results.json."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from asdjax.evaluation import results_table, training_ranking
from asdjax.evaluation.results_table import SystemRow, list_rows, percent
from asdjax.evaluation.sensitivity import FOUND
from asdjax.inference import log_mel_statistics
from asdjax.inference.ensembles import OF_ALL_SEEDS
from asdjax.runtime import text_table

_ALWAYS_SHOWN = {*OF_ALL_SEEDS, *OF_ALL_SEEDS.values(), *log_mel_statistics.NAMES}
_NOTE = (
    "Faults mixed into normal clips, without any label. Smallest size of each kind, in dB of the clip's own power, "
    f"from which on {100 * FOUND:g} % of the clips raise an alarm; -: not even at the largest. AUC: of all mixed clips "
    "against training clips, in %."
)

_STRANGEST = 3
_STRANGE = ("strangest training clips", "above threshold")
_STRANGE_NOTE = (
    "Listen to them; if one was not normal, name it in a file for config.data.exclude, and train in another work "
    "directory. Above threshold: in distances between the quartiles of a section's training scores. results.json lists "
    "more."
)
_NO_FIGURES = "No test clip has a label, so there are no figures; the evaluation has scores, thresholds and decisions."


def as_text(results: Mapping[str, Any], width: int) -> str:
    """Return the summary for a terminal of `width` characters, with the main systems' sensitivity only."""
    rows = list_rows(results)
    parts = [
        results_table.as_text(rows, width) if _have_figures(rows) else text_table.format_notes([_NO_FIGURES], width)
    ]
    if accepted := _describe_accepted(results):
        parts.append(text_table.format_notes([accepted], width))
    if results["sensitivity"]:
        table = text_table.format_table([_head(results), *_list_sensitivity(results, _ALWAYS_SHOWN)], width)
        parts.append(f"{table}\n\n{text_table.format_notes([_NOTE], width)}")
    if strange := _list_strange(results):
        note = text_table.format_notes([_STRANGE_NOTE], width)
        parts.append(f"{text_table.format_table([_STRANGE, *strange], width)}\n\n{note}")
    if warnings := list_warnings(results):
        parts.append(text_table.format_notes([f"Warning: {warning}." for warning in warnings], width))
    return "\n\n".join(parts)


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the summary for table.md."""
    rows = list_rows(results)
    parts = [results_table.as_markdown(rows) if _have_figures(rows) else f"{_NO_FIGURES}\n"]
    if accepted := _describe_accepted(results):
        parts.append(f"{accepted}\n")
    if results["sensitivity"]:
        parts.append(_as_markdown_table([_head(results), *_list_sensitivity(results)], _NOTE))
    if strange := _list_strange(results):
        parts.append(_as_markdown_table([_STRANGE, *strange], _STRANGE_NOTE))
    if warnings := list_warnings(results):
        parts.append("".join(f"- Warning: {warning}.\n" for warning in warnings))
    return "\n".join(parts)


def _as_markdown_table(rows: Sequence[Sequence[str]], note: str) -> str:
    lines = ["| " + " | ".join(map(_escape, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:], "", note, ""])


def _list_strange(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the end of the path and the excess of the strangest training clips."""
    return [
        (f"{machine} {'/'.join(Path(clip['path']).parts[-2:])}", f"{clip['excess']:.1f}")
        for machine, clip in training_ranking.list_strangest(results, _STRANGEST)
    ]


def _describe_accepted(results: Mapping[str, Any]) -> str:
    """Return how many clips the banks have that were accepted in service; empty for none."""
    counts = Counter(f"{clip['machine']} {clip['section']}" for clip in results["accepted"])
    named = ", ".join(f"{place} ({number})" for place, number in sorted(counts.items()))
    return f"The banks have clips that were accepted in service: {named}." if named else ""


def _have_figures(rows: Sequence[SystemRow]) -> bool:
    figures = [figure for row in rows for figure in (row.official, row.found, row.false_alarms)]
    return any(figure is not None for figure in figures)


def list_warnings(results: Mapping[str, Any]) -> list[str]:
    """Return the warnings of an evaluation, a line each, without a full stop."""
    return [f"{one['where']}: {one['seen']}; {one['remedy']}" for one in results["warnings"]]


def _head(results: Mapping[str, Any]) -> list[str]:
    by_machine = next(iter(results["sensitivity"].values()))
    kinds = next(iter(by_machine.values()))["kinds"]
    return ["finds faults from (dB)", *kinds, "AUC"]


def _list_sensitivity(results: Mapping[str, Any], shown: Container[str] | None = None) -> list[list[str]]:
    """Return a row of texts for each machine type and system, or for those systems that are shown."""
    measured = results["sensitivity"]
    machines = list(dict.fromkeys(machine for by_machine in measured.values() for machine in by_machine))
    return [
        [f"{machine} {system}", *_format_sizes(by_machine[machine]["kinds"]), percent(by_machine[machine]["auc"])]
        for machine in machines
        for system, by_machine in measured.items()
        if machine in by_machine and (shown is None or system.split("@")[0] in shown)
    ]


def _format_sizes(kinds: Mapping[str, Any]) -> Sequence[str]:
    return ["-" if kind["smallest_db"] is None else f"{kind['smallest_db']:g}" for kind in kinds.values()]


def _escape(text: str) -> str:
    return text.replace("|", r"\|")
