"""The report of an evaluation: `report` reads the evaluation, explains clips and writes one HTML file."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asdjax import features
from asdjax.evaluation import summary, training_ranking
from asdjax.evaluation.results_table import percent
from asdjax.inference.stored_results import require_unchanged
from asdjax.report import (
    cards,
    clip_selection,
    curves,
    explain,
    page,
    players,
    report_inputs,
    report_tables,
    sections,
    strange_clips,
)
from asdjax.report.explain import Explanation
from asdjax.report.figures import Picture
from asdjax.report.page import Page
from asdjax.report.piece_scores import open_detectors
from asdjax.report.report_inputs import ReportInputs
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
    """Write W/evaluation/<split>/report.html and return its path. Nothing else on disk changes.

    Args:
        workdir: the work directory W.
        split: None is the development set if it was evaluated, else the evaluation set.
        clips: number of explained clips in each group of `clip_selection.REASONS`, and of training clips to listen to.
        overrides: only `data.store` may be changed.

    Raises InputError if there is no evaluation, a part of it is missing, or the file cannot be written.
    """
    # 1. Read the evaluation.
    inputs = report_inputs.read(workdir, split, overrides)
    require_writable(inputs.folder)
    # 2. Explain clips: seconds, frequencies, the nearest normal clip.
    explanations = _explain(workdir, inputs, clips)
    # 3. Make pictures, tables and sentences.
    strange = training_ranking.list_strangest(inputs.results, clips)
    content = page.render(_make_page(workdir, inputs, explanations, strange))
    # 4. Write the file, unless the evaluation on disk was replaced meanwhile.
    require_unchanged(inputs.folder, inputs.results)
    replace_text(inputs.folder / FILE, content)
    return inputs.folder / FILE


def _explain(workdir: Path, inputs: ReportInputs, clips: int) -> list[Explanation]:
    """Explain the chosen clips, in the order of `choose_clips`."""
    chosen = clip_selection.choose_clips(inputs.rows, clips)
    explanations = [
        explanation
        for fleet in inputs.fleets
        for explanation in explain.explain(
            workdir, inputs.config, fleet, [one for one in chosen if one.row.clip.machine in fleet.machines]
        )
    ]
    return sorted(explanations, key=lambda explanation: chosen.index(explanation.chosen))


def _make_page(
    workdir: Path, inputs: ReportInputs, explanations: list[Explanation], strange: list[tuple[str, Mapping[str, Any]]]
) -> Page:
    official, interval = inputs.system["official"], inputs.system["interval"]
    models = {fleet.name: open_detectors(fleet, inputs.config) for fleet in inputs.fleets}
    most = players.share_budget(2 * len(explanations) + len(strange), inputs.config.signal.sample_rate_hz)
    clip_cards = cards.make_cards(explanations, features.make_spectrogram(inputs.config), most)
    groups = [one.chosen.group for one in explanations]
    return Page(
        title=f"{', '.join(inputs.machines)} ({inputs.results['split']})",
        headline=report_tables.write_headline(inputs),
        warnings=summary.list_warnings(inputs.results),
        facts=_list_facts(inputs),
        counts=report_tables.count_decisions(inputs.rows),
        official=None if official is None else percent(official),
        interval=report_tables.format_interval(tuple(interval)) if interval else None,
        systems=None if official is None else report_tables.make_systems_table(inputs),
        machines=[
            sections.make_section(inputs, models[inputs.find_fleet(machine).name], machine)
            for machine in track(inputs.machines, "report", len(inputs.machines), "machine type")
        ],
        thresholds=report_tables.make_thresholds_table(inputs),
        groups=page.group_cards(list(zip(groups, clip_cards, strict=True))),
        strange=strange_clips.make_cards(workdir, inputs, strange, most),
        training=_make_training_pictures(inputs),
        settings=[
            (f"evaluate.{name}", _to_text(value)) for name, value in inputs.results["config"]["evaluate"].items()
        ],
        seed_note=_write_seed_note(inputs),
    )


def _list_facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    names: dict[str, list[str]] = {}
    for fleet in inputs.fleets:
        for line, step in fleet.steps.items():
            names.setdefault(f"{line} at step {step}", []).append(fleet.name)
    checkpoints = [f"{checkpoint} ({', '.join(runs)})" for checkpoint, runs in names.items()]
    clips = report_tables.count_decisions(inputs.rows).clips
    return [
        ("Machine types", ", ".join(inputs.machines)),
        ("Models (variants)", ", ".join(inputs.config.variants) if checkpoints else "none"),
        ("Seeds", ", ".join(map(str, inputs.seeds))),
        ("Checkpoints", "; ".join(checkpoints) or "none"),
        ("Precision", inputs.results["precision"]),
        ("Test clips", f"{clips} clips of the {inputs.results['split']} split"),
        ("Rules", f"DCASE {inputs.results['year']} Task 2"),
    ]


def _make_training_pictures(inputs: ReportInputs) -> list[tuple[str, Picture]]:
    return [
        (fleet.name, curves.make_curves_picture(fleet.name, fleet.metric_rows, inputs.config.variants, fleet.steps))
        for fleet in inputs.fleets
        if curves.list_phases(fleet.metric_rows)
    ]


def _write_seed_note(inputs: ReportInputs) -> str:
    if len(inputs.seeds) == 1:
        return ""
    default = inputs.results["default_system"]
    return (
        f"Tables show means over the seeds {', '.join(map(str, inputs.seeds))}. Thresholds, figures, decisions and "
        f"clips are those of seed {inputs.seed}. asdjax score and export use "
        + (f"seed {inputs.seed} too." if default == inputs.headline else f"{default}, with the models of all seeds.")
    )


def _to_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
