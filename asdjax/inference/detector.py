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
from asdjax.inference import ensembles, stored_results
from asdjax.inference.anomalous_seconds import Spans, TimedPieces, time_pieces
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import pool_pieces
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, Loaded, Member
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
    """A system for the clips of one machine type and section."""

    parts: Sequence[CheckpointModels]
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
        """Score a clip int16 (s,) of at least one piece. Raises InputError if a score is not finite."""
        distances = [pair for part in self.parts for pair in self._measure_distances(part, samples)]
        pooled = [(member, np.array([pool_pieces(pieces, self.scoring)])) for member, pieces in distances]
        clip = np.mean([member.normalise(score)[0] for member, score in pooled])
        scores = np.mean([member.normalise(pieces) for member, pieces in distances], axis=0)
        if not np.isfinite([clip, *scores]).all():
            raise InputError(f"expected a finite score, got {clip}; evaluate another checkpoint or with larger banks")
        pieces = time_pieces(len(samples), scores, self.spectrogram, self.stride_frames)
        return ClipResult(float(clip), self.threshold.value, pieces)

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

    `normaliser` is a key of `ensembles.NORMALISERS`.
    """

    config: Config
    machine: str
    normaliser: str
    thresholds: Thresholds
    checkpoints: Sequence[tuple[Checkpoint, Loaded]]

    @property
    def places(self) -> list[tuple[str, Domain | None]]:
        """Return the pairs of section and domain that have a detector of their own, sorted.

        The domain is None where banks do not depend on it: such a detector serves clips of an unknown domain. Where
        only thresholds depend on the domain, a section of several domains has a pair for each of them too.
        """
        first, _ = self.checkpoints[0]
        domains: dict[str, set[Domain | None]] = {}
        for clip in first.kept.bank.clips:
            if clip.machine == self.machine:
                domains.setdefault(clip.section, set()).add(clip.domain)
        field = _find_domain_field(self.config)
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
        field = _find_domain_field(self.config)
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
            Scoring.from_config(self.config),
            find_threshold(clip, self.thresholds, evaluate.threshold_per),
            features.make_spectrogram(self.config),
            evaluate.stride_frames,
        )

    def _make_part(self, checkpoint: Checkpoint, loaded: Loaded, clip: Clip) -> CheckpointModels:
        if not checkpoint.bank_for(clip):
            sections = dict.fromkeys(section for section, _ in self.places)
            raise InputError(f"section {clip.section}: expected one of {', '.join(sections)} of {clip.machine}")
        return CheckpointModels(checkpoint.name, *loaded, checkpoint.members(clip, self.normaliser))


def open_detector(
    evaluation: Evaluation, system: str | None, machine: str, section: str, domain: Domain | None
) -> SectionDetector:
    """Make the detector of a system for clips of one machine type and section.

    `domain` is required only if banks depend on it. `system` and errors are those of `open_system`.
    """
    if domain not in (None, "source", "target"):
        raise InputError(f"domain {domain}: expected source or target; give one of them, or none")
    loaded = open_system(evaluation, system, machine)
    domains = {known_domain for known, known_domain in loaded.places if known == section and known_domain}
    if domain is None and len(domains) > 1 and _find_domain_field(loaded.config) == "threshold_per":
        log("no domain given: using the threshold of the section; domain source or target selects the domain's own")
    detector = loaded.make_detector(section, domain)
    stored_results.require_unchanged(evaluation.folder, evaluation.results)
    return detector


def open_system(evaluation: Evaluation, system: str | None, machine: str) -> LoadedSystem:
    """Load a system of an evaluation for clips of one machine type.

    By default `system` averages all models. With several seeds it is `<name>@<seed>`; a bare name takes the first seed.
    Raises InputError for an unknown system or machine type, and if models or banks are missing or damaged.
    """
    content = evaluation.results
    entry = _select_system(content["systems"], content["models"], system)
    if machine not in entry["members"]:
        raise InputError(f"machine {machine}: expected one of {', '.join(entry['members'])}")
    models = entry["members"][machine]
    return LoadedSystem(
        config=evaluation.config,
        machine=machine,
        normaliser=ensembles.choose_normaliser(evaluation.config, len(models)),
        thresholds=stored_results.decode_thresholds(entry),
        checkpoints=[(checkpoint, checkpoint.load()) for checkpoint in evaluation.checkpoints(machine, models)],
    )


def _select_system(systems: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], system: str | None) -> Mapping:
    """Return the entry of a system with thresholds and members, without baselines: their models are not stored."""
    usable: dict[str, Mapping[str, Any]] = {}
    for name, entry in systems.items():
        seeds = entry.get("by_seed", [None])
        for seed in seeds:
            selected = stored_results.select_seed(entry, seed)
            stored = all(set(names) <= models.get(machine, {}).keys() for machine, names in selected["members"].items())
            if stored and "baselines" not in selected:
                usable[add_seed(name, seed, seeds)] = selected
    name = system or (ensembles.ALL_SEEDS if ensembles.ALL_SEEDS in usable else ensembles.ALL)
    by_seed = systems[name].get("by_seed", ()) if name in systems else ()
    if any(add_seed(name, seed, by_seed) in usable for seed in by_seed):
        first, *others = (add_seed(name, seed, by_seed) for seed in by_seed)
        log(f"system {name}: using {first}; also available: {', '.join(others)}")
        name = first
    if name not in usable:
        raise InputError(f"system {name}: expected one of {', '.join(usable)}")
    return usable[name]


def _find_domain_field(config: Config) -> str | None:
    """Return the field of `config.evaluate` that makes banks or thresholds depend on domains, if any."""
    fields = (("bank", "same_domain"), ("threshold_per", "section_domain"))
    return next((field for field, value in fields if config.evaluate[field] == value), None)
