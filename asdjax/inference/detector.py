"""Detectors for new clips, made from the systems of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.fleet import embed
from asdjax.fleet.embed import Embeddings
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.fleet.runs import add_seed
from asdjax.inference import ensembles, log_mel_statistics, stored_results
from asdjax.inference.anomalous_seconds import Spans, TimedPieces, time_pieces, time_whole_clip
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import pool_pieces
from asdjax.inference.combination import Combination, make_combination
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, Loaded, Member
from asdjax.inference.log_mel_statistics import SimpleDetectors
from asdjax.inference.stored_embeddings import Checkpointed
from asdjax.inference.thresholds import Threshold, Thresholds, find_threshold
from asdjax.runtime.progress import log

#: Pieces embedded in one call: a 10 s clip has nine, and padding costs computation.
PIECES_PER_BATCH = 3


class CheckpointModels(NamedTuple):
    """The models that a detector takes from one checkpoint, `name`."""

    name: str
    spec: ModelSpec
    model: Model
    members: Sequence[Member]


class ClipResult(NamedTuple):
    """A detector's result for a clip: score, threshold, and the clip's pieces with their scores."""

    score: float
    threshold: float
    pieces: TimedPieces

    @property
    def is_anomaly(self) -> bool:
        """Return True if the score is above the threshold."""
        return self.score > self.threshold

    @property
    def anomalous_seconds(self) -> Spans:
        """Return the time spans, in seconds, of the pieces above the threshold."""
        return self.pieces.above(self.threshold)


class SectionDetector(NamedTuple):
    """A system for the clips of one machine type and section: models, simple detectors, or both, combined."""

    parts: Sequence[CheckpointModels]
    simple: SimpleDetectors
    combination: Combination | None
    scoring: Scoring
    threshold: Threshold
    spectrogram: features.Spectrogram
    stride_frames: int

    def embed(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the unit embeddings (p, d) of a clip's pieces by variant.

        A second model of a variant is `<variant>@<run>/<line>`. `samples` are int16 (s,).
        """
        embeddings: dict[str, np.ndarray] = {}
        for part in self.parts:
            vectors = self._embed_part(part, samples).vectors
            for member in part.members:
                name = member.variant if member.variant not in embeddings else f"{member.variant}@{part.name}"
                embeddings[name] = vectors[member.variant]
        return embeddings

    def score_clip(self, samples: np.ndarray) -> ClipResult:
        """Score a clip int16 (s,) of at least one piece. Raises InputError if a score is not finite.

        The simple detectors have one score for the clip, which counts in each of its pieces; without models the clip is
        one piece.
        """
        distances = [pair for part in self.parts for pair in self._measure_distances(part, samples)]
        pooled = [(member, np.array([pool_pieces(pieces, self.scoring)])) for member, pieces in distances]
        simple = self.simple(samples)
        clip = self._join([member.normalise(score) for member, score in pooled], simple)
        scores = self._join([member.normalise(pieces) for member, pieces in distances], simple)
        if not np.isfinite([*clip, *scores]).all():
            raise InputError(
                f"expected a finite score, got {clip[0]}; evaluate another checkpoint or with larger banks"
            )
        if not self.parts:
            pieces = time_whole_clip(len(samples), scores, self.spectrogram)
        else:
            count = len(embed.list_piece_starts(len(samples), self.spectrogram, self.stride_frames))
            pieces = time_pieces(len(samples), np.broadcast_to(scores, count), self.spectrogram, self.stride_frames)
        return ClipResult(float(clip[0]), self.threshold.value, pieces)

    def _join(self, models: Sequence[np.ndarray], simple: Sequence[float]) -> np.ndarray:
        """Return the system's scores (n,), from the normalised ones of each model (n,) and the simple detectors'."""
        average = [np.mean(models, axis=0)] if models else []
        if self.combination is None:
            (only,) = [*average, *map(np.atleast_1d, simple)]
            return only
        return np.atleast_1d(self.combination([*average, *simple]))

    def _measure_distances(self, part: CheckpointModels, samples: np.ndarray) -> list[tuple[Member, np.ndarray]]:
        """Return each model with the distances (p,) of the clip's pieces."""
        embedded = self._embed_part(part, samples)
        return [(member, member.scorer(embedded.vectors[member.variant])) for member in part.members]

    def _embed_part(self, part: CheckpointModels, samples: np.ndarray) -> Embeddings:
        return embed.embed_clips(
            part.spec,
            part.model,
            [samples],
            stride_frames=self.stride_frames,
            batch_size=PIECES_PER_BATCH,
            what="embed",
            quiet=True,
        )


@dataclass(frozen=True, kw_only=True)
class LoadedSystem:
    """A system for all sections of one machine type, with its models loaded.

    `normaliser` is a key of `ensembles.NORMALISERS`. `simple` names the simple detectors, whose data are `statistics`.
    """

    config: Config
    machine: str
    normaliser: str
    thresholds: Thresholds
    checkpoints: Sequence[tuple[Checkpoint, Loaded]]
    simple: tuple[str, ...]
    statistics: Checkpointed

    @property
    def places(self) -> list[tuple[str, Domain | None]]:
        """Return the pairs of section and domain that have a detector of their own, sorted.

        The domain is None where banks do not depend on it: such a detector serves clips of an unknown domain. Where
        only thresholds depend on the domain, a section of several domains has a pair for each of them too.
        """
        domains: dict[str, set[Domain | None]] = {}
        for clip in self.statistics.bank.clips:
            domains.setdefault(clip.section, set()).add(clip.domain)
        field = self._find_domain_field()
        places: set[tuple[str, Domain | None]] = set()
        for section, known in domains.items():
            if field != "bank":
                places.add((section, None))
            if field == "bank" or (field and len(known) > 1):
                places |= {(section, domain) for domain in known}
        return sorted(places, key=repr)

    def make_detector(self, section: str, domain: Domain | None) -> SectionDetector:
        """Make the detector for clips of a section. The section's threshold decides clips of an unknown domain.

        Raises InputError if the section has no bank or threshold, or if its banks need a domain.
        """
        field = self._find_domain_field()
        if section not in (sections := dict.fromkeys(known for known, _ in self.places)):
            raise InputError(f"section {section}: expected one of {', '.join(sections)} of {self.machine}")
        if field == "bank" and domain is None:
            raise InputError(
                "domain: expected source or target, got none; config.evaluate.bank=same_domain needs the domain"
            )
        clip = Clip(Path("clip"), self.machine, section, "test", domain, None)
        parts = [self._make_part(*checkpoint, clip) for checkpoint in self.checkpoints]
        if domain and not field:
            log(f"domain {domain}: no effect, because neither config.evaluate.bank nor .threshold_per uses domains")
        evaluate = self.config.evaluate
        return SectionDetector(
            parts,
            log_mel_statistics.make_detectors(self.statistics, self.simple, section, self.config.signal.sample_rate_hz),
            self._make_combination(section),
            Scoring.from_config(self.config),
            find_threshold(clip, self.thresholds, evaluate.threshold_per),
            features.make_spectrogram(self.config),
            evaluate.stride_frames,
        )

    def _make_part(self, checkpoint: Checkpoint, loaded: Loaded, clip: Clip) -> CheckpointModels:
        return CheckpointModels(checkpoint.name, *loaded, checkpoint.members(clip, self.normaliser))

    def _make_combination(self, section: str) -> Combination | None:
        """Return the combination of the models' average, if any, and the simple detectors; None for a single one."""
        models = [
            checkpoint.kept.scores_of(variant, self.machine)
            for checkpoint, _ in self.checkpoints
            for variant in checkpoint.variants
        ]
        detectors = [ensembles.average(models, self.normaliser)] if models else []
        detectors += [self.statistics.scores_of(name, self.machine) for name in self.simple]
        return make_combination(detectors, section) if len(detectors) > 1 else None

    def _find_domain_field(self) -> str | None:
        """Return the field of `config.evaluate` that makes banks or thresholds depend on domains, if any."""
        fields = [("threshold_per", "section_domain")]
        if self.checkpoints:  # the simple detectors compare with the whole section
            fields.insert(0, ("bank", "same_domain"))
        return next((field for field, value in fields if self.config.evaluate[field] == value), None)

    def warn_without_domain(self, section: str) -> None:
        """Log if the domains of a section have other thresholds than the section, for a detector made without one."""
        of_section = {limit.value for place, limit in self.thresholds.items() if place[:2] == (self.machine, section)}
        if len(of_section) > 1 and self._find_domain_field() == "threshold_per":
            log("no domain given: using the threshold of the section; domain source or target selects the domain's own")


def open_detector(
    evaluation: Evaluation, system: str | None, machine: str, section: str, domain: Domain | None
) -> SectionDetector:
    """Make the detector of a system for clips of one machine type and section.

    `domain` is required only if banks depend on it. `system` and errors are those of `open_system`.
    """
    if domain not in (None, "source", "target"):
        raise InputError(f"domain {domain}: expected source or target; give one of them, or none")
    loaded = open_system(evaluation, system, machine)
    if domain is None:
        loaded.warn_without_domain(section)
    detector = loaded.make_detector(section, domain)
    stored_results.require_unchanged(evaluation.folder, evaluation.results)
    return detector


def open_system(evaluation: Evaluation, system: str | None, machine: str) -> LoadedSystem:
    """Load a system of an evaluation for clips of one machine type; by default the evaluation's default system.

    With several seeds it is `<name>@<seed>`; a bare name takes the first seed. Raises InputError for an unknown system
    or machine type, and if models or banks are missing or damaged.
    """
    entry = _select_system(evaluation.results, system)
    if machine not in entry["members"]:
        raise InputError(f"machine {machine}: expected one of {', '.join(entry['members'])}")
    models = entry["members"][machine]
    return LoadedSystem(
        config=evaluation.config,
        machine=machine,
        normaliser=ensembles.choose_normaliser(evaluation.config, len(models)),
        thresholds=stored_results.decode_thresholds(entry),
        checkpoints=[(checkpoint, checkpoint.load()) for checkpoint in evaluation.checkpoints(machine, models)],
        simple=tuple(entry["baselines"]),
        statistics=evaluation.load_statistics(machine),
    )


def _select_system(results: Mapping[str, Any], system: str | None) -> Mapping[str, Any]:
    """Return the entry of a system with thresholds and members; not the auto-encoder, which is not stored with it."""
    usable: dict[str, Mapping[str, Any]] = {}
    for name, entry in results["systems"].items():
        seeds = entry.get("by_seed", [None])
        for seed in seeds:
            selected = stored_results.select_seed(entry, seed)
            if set(selected["baselines"]) <= set(log_mel_statistics.NAMES):
                usable[add_seed(name, seed, seeds)] = selected
    name = system or results["default_system"]
    by_seed = results["systems"].get(name, {}).get("by_seed", ())
    if by_seed:
        first, *others = (add_seed(name, seed, by_seed) for seed in by_seed)
        log(f"system {name}: using {first}; also available: {', '.join(others)}")
        name = first
    if name not in usable:
        raise InputError(f"system {name}: expected one of {', '.join(usable)}")
    return usable[name]
