"""`asdjax report`: the order of operations. Reads an evaluation, trains nothing, asks for no label."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from asdjax import features
from asdjax.evaluation.results_table import as_range, percent
from asdjax.inference.stored_results import require_unchanged
from asdjax.report import cards, clip_selection, curves, explain, page, report_inputs, report_tables, sections
from asdjax.report.explain import Explanation
from asdjax.report.figures import Picture
from asdjax.report.page import Page
from asdjax.report.piece_scores import Models
from asdjax.report.report_inputs import HEADLINE, ReportInputs
from asdjax.runtime.files import replace_text, require_writable
from asdjax.runtime.progress import track

FILE = "report.html"
CLIPS = 3


def report(
    workdir: Path,
    *,
    split: str | None = None,
    clips: int = CLIPS,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write W/evaluation/<split>/report.html and return its path; nothing else on disk changes.

    `clips`: how many are explained of the most anomalous, of the normal ones with the highest and of the anomalies with
    the lowest scores. `split` None is the labelled one if it was evaluated. Raises InputError where nothing was
    evaluated, something of it is gone, or the page could not be written.
    """
    # 1. What an evaluation has found.
    read = report_inputs.read(workdir, split, overrides)
    require_writable(read.folder)
    # 2. Why: clips, pieces, frequencies, the nearest normal clip.
    explained = _explained(workdir, read, clips)
    # 3. Pictures, tables, sentences.
    content = page.html(_page(read, explained))
    # 4. One file, if it still is of the evaluation that lies there.
    require_unchanged(read.folder, read.results)
    replace_text(read.folder / FILE, content)
    return read.folder / FILE


def _explained(workdir: Path, read: ReportInputs, number: int) -> list[Explanation]:
    """In the order in which they were chosen."""
    chosen = clip_selection.choose(read.rows, number)
    found = [
        one
        for fleet in read.fleets
        for one in explain.explain(
            workdir, read.config, fleet, [one for one in chosen if one.row.clip.machine in fleet.machines]
        )
    ]
    return sorted(found, key=lambda one: chosen.index(one.chosen))


def _page(read: ReportInputs, explained: list[Explanation]) -> Page:
    system = read.results["systems"][HEADLINE]
    known = system["official"] is not None
    models = {fleet.name: Models(fleet, read.config) for fleet in read.fleets}
    shown = cards.cards(explained, features.make_spectrogram(read.config))
    return Page(
        title=f"{', '.join(read.machines)} ({read.results['split']})",
        headline=report_tables.headline(read),
        facts=_facts(read),
        counts=report_tables.counts(read.rows),
        official=percent(system["official"]) if known else None,
        interval=as_range(tuple(system["interval"])).replace("-", "–") if system["interval"] else None,
        systems=report_tables.systems(read) if known else None,
        machines=[
            sections.machine(read, models[read.fleet_of(name).name], name)
            for name in track(read.machines, "report", len(read.machines), "machine type")
        ],
        limits=report_tables.limits(read),
        groups=page.groups([(one.chosen.group, card) for one, card in zip(explained, shown, strict=True)]),
        training=_training(read),
        settings=[(f"evaluate.{name}", _text(value)) for name, value in read.results["config"]["evaluate"].items()],
        seed_note=_seed_note(read),
    )


def _facts(read: ReportInputs) -> list[tuple[str, str]]:
    """What was trained and judged."""
    at: dict[str, list[str]] = {}
    for fleet in read.fleets:
        for line, step in fleet.steps.items():
            at.setdefault(f"{line} at step {step}", []).append(fleet.name)
    steps = [f"{place} ({', '.join(names)})" for place, names in at.items()]
    return [
        ("Machine types", ", ".join(read.machines)),
        ("Models (variants)", ", ".join(read.config.variants)),
        ("Seeds", ", ".join(map(str, read.seeds))),
        ("Checkpoints judged", "; ".join(steps)),
        ("Computed in", read.results["precision"]),
        ("Test clips", f"{read.results['split']} split, {report_tables.counts(read.rows).clips} clips"),
        ("Rules", f"DCASE {read.results['year']} Task 2"),
    ]


def _training(read: ReportInputs) -> list[tuple[str, Picture]]:
    return [
        (fleet.name, curves.curves(fleet.name, fleet.told, read.config.variants, fleet.steps))
        for fleet in read.fleets
        if curves.phases_in(fleet.told)
    ]


def _seed_note(read: ReportInputs) -> str:
    if len(read.seeds) == 1:
        return ""
    return (
        f"Tables are means over the seeds {', '.join(map(str, read.seeds))}; thresholds, figures, decisions and clips "
        f"are those of seed {read.seed}."
    )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
