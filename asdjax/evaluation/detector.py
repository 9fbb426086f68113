"""A system put together again from an evaluation: what scores new clips.

Reads the evaluation's folder, the checkpoints that it judged and each fleet's task.json; the recordings that the
models were trained on need not be there any more.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asdjax import configfile, signal
from asdjax.config import Config
from asdjax.corpus.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.evaluation import embeddings, ensembles, results
from asdjax.evaluation.backends import Scorer, scorer_of
from asdjax.evaluation.bank import Bank, Scoring, bank_of, grouped
from asdjax.evaluation.ensembles import SCALES, Scale
from asdjax.evaluation.scores import pooled
from asdjax.evaluation.spans import Pieces, Spans, pieces_of
from asdjax.evaluation.thresholds import Threshold, threshold_of
from asdjax.training import checkpoints, embed, fleet, optimizer, record
from asdjax.training.fleet import FleetSpec, Model

PIECES_AT_ONCE = 3
"""Embedded in one call: a 10 s clip has nine pieces, and what is padded is computed for nothing."""


class Member(NamedTuple):
    """One model of a system: its variant, the pieces it compares with, how it scores others, and what the system
    averages of that."""

    variant: str
    bank: Bank
    scorer: Scorer
    scale: Scale


class Part(NamedTuple):
    """The members that one checkpoint, `name`, holds."""

    name: str
    spec: FleetSpec
    model: Model
    members: Sequence[Member]


class Verdict(NamedTuple):
    """What a detector says of a clip: score, threshold, and its pieces with theirs."""

    score: float
    threshold: float
    pieces: Pieces

    @property
    def anomalous(self) -> bool:
        """The decision."""
        return self.score > self.threshold

    @property
    def seconds(self) -> Spans:
        """When the pieces lie above the threshold."""
        return self.pieces.above(self.threshold)


class Detector(NamedTuple):
    """A system for one machine type and section."""

    parts: Sequence[Part]
    scoring: Scoring
    threshold: Threshold
    spectrogram: signal.Spectrogram
    stride_frames: int

    def judge(self, samples: np.ndarray) -> Verdict:
        """Score a clip int16 (s,) of any length that has a piece."""
        of_members = [distances for part in self.parts for distances in self._distances(part, samples)]
        clip = np.mean([float(scale(np.array([pooled(pieces, self.scoring)]))[0]) for pieces, scale in of_members])
        scores = np.mean([scale(pieces.astype(np.float64)) for pieces, scale in of_members], axis=0)
        pieces = pieces_of(len(samples), scores, self.spectrogram, self.stride_frames)
        return Verdict(float(clip), self.threshold.value, pieces)

    def _distances(self, part: Part, samples: np.ndarray) -> list[tuple[np.ndarray, Scale]]:
        embedded = embed.embed_clips(
            part.spec,
            part.model,
            [samples],
            stride_frames=self.stride_frames,
            batch_size=PIECES_AT_ONCE,
            what="embed",
            quiet=True,
        )
        return [(member.scorer(embedded.vectors[member.variant]), member.scale) for member in part.members]


def open_detector(
    config: Config, workdir: Path, split: str, system: str | None, machine: str, section: str, domain: Domain | None
) -> Detector:
    """Put a system of an evaluation together for clips of one machine type and section.

    `system`: by default all models. `config` is the work directory's; how clips are scored is as it was when they
    were evaluated. `domain` is needed only where banks or thresholds go by it. Raises InputError for what is not there.
    """
    evaluation = workdir / "evaluation" / split
    found = results.read(evaluation)
    config.evaluate.update(configfile.tuples(found["settings"]))
    name, described = _chosen(found["systems"], system)
    clip = Clip(Path("clip"), machine, section, "test", domain, None)
    _require_domain(config, domain)
    members = _members(described, found["models"], machine, name)
    ensemble = config.evaluate.ensemble if len(members) > 1 else "score"
    by_checkpoint: dict[tuple[str, str], list[str]] = {}
    for run, line, variant in members:
        by_checkpoint.setdefault((run, line), []).append(variant)
    parts = [
        _part(config, workdir, evaluation, run, line, found["checkpoints"][f"{run}/{line}"], variants, clip, ensemble)
        for (run, line), variants in by_checkpoint.items()
    ]
    limit = threshold_of(clip, _thresholds(described), config.evaluate.threshold_per)
    spectrogram = signal.spectrogram_of(config)
    return Detector(parts, Scoring.of(config), limit, spectrogram, config.evaluate.stride_frames)


def _chosen(systems: Mapping[str, Any], system: str | None) -> tuple[str, Mapping[str, Any]]:
    usable = [name for name, described in systems.items() if described.get("members")]
    name = system or next(name for name in (ensembles.ALL_SEEDS, ensembles.ALL) if name in usable)
    if name not in usable:
        raise InputError(f"--system {name}: expected one of {', '.join(usable)}")
    return name, systems[name]


def _require_domain(config: Config, domain: Domain | None) -> None:
    asked = [
        field
        for field, value in (("bank", "same_domain"), ("threshold_per", "section_domain"))
        if config.evaluate[field] == value
    ]
    if asked and domain is None:
        raise InputError(f"--domain: expected source or target, as config.evaluate.{asked[0]} goes by it, got none")


def _thresholds(described: Mapping[str, Any]) -> dict:
    return {
        (row["machine"], row["section"], row["domain"]): Threshold(*(row[field] for field in Threshold._fields))
        for row in described["thresholds"]
    }


def _members(
    described: Mapping[str, Any], models: Mapping[str, Mapping[str, list[str]]], machine: str, system: str
) -> list[tuple[str, str, str]]:
    """Run, line and variant of each model of a system."""
    if machine not in described["members"]:
        raise InputError(f"--machine {machine}: expected one of {', '.join(described['members'])}")
    names = described["members"][machine]
    if unknown := [name for name in names if name not in models[machine]]:
        raise InputError(f"--system {system}: {unknown[0]} is a baseline, whose model is not kept; choose another")
    return [(run, line, variant) for run, line, variant in (models[machine][name] for name in names)]


def _part(
    config: Config,
    workdir: Path,
    evaluation: Path,
    run: str,
    line: str,
    step: int,
    variants: Sequence[str],
    clip: Clip,
    ensemble: str,
) -> Part:
    kept = embeddings.load(evaluation, run, line, variants)
    scoring = Scoring.of(config)
    spec = fleet.spec_of(config, record.number_of_classes(workdir / run), optimizer.GROUPS)
    model = _restored(spec, workdir / run / line, step)
    numbers = grouped(kept.bank.clips, scoring.bank).get(next(iter(grouped([clip], scoring.bank))), [])
    if not numbers:
        sections = sorted({other.section for other in kept.bank.clips if other.machine == clip.machine})
        raise InputError(f"--section {clip.section}: expected one of {', '.join(sections)} of {clip.machine}")
    members = []
    for variant in variants:
        bank = bank_of(kept.bank.clips, numbers, kept.bank.pieces, variant)
        scale = SCALES[ensemble](kept.scores_of(variant, clip.machine))
        members.append(Member(variant, bank, scorer_of(bank, scoring), scale))
    return Part(f"{run}/{line}", spec._replace(variants=tuple(variants)), model, members)


def _restored(spec: FleetSpec, line: Path, step: int) -> Model:
    try:
        return checkpoints.restore(line, step, {"model": fleet.abstract_model(spec)})["model"]
    except checkpoints.Damaged as damage:
        raise InputError(f"{damage}; run asdjax evaluate again") from None
