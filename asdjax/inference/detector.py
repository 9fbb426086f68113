"""A system put together again from an evaluation: what scores new clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.evaluation import results
from asdjax.fleet import embed
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.inference import ensembles
from asdjax.inference.anomalous_seconds import Spans, TimedPieces, time_pieces
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import pooled
from asdjax.inference.ensembles import Scale
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, Loaded, Member
from asdjax.inference.thresholds import Threshold, Thresholds, find_threshold
from asdjax.runtime.progress import log

PIECES_AT_ONCE = 3
"""Embedded in one call: a 10 s clip has nine pieces, and what is padded is computed for nothing."""


class Part(NamedTuple):
    """The members that one checkpoint, `name`, holds."""

    name: str
    spec: ModelSpec
    model: Model
    members: Sequence[Member]


class ClipResult(NamedTuple):
    """What a detector says of a clip: score, threshold, and its pieces with theirs."""

    score: float
    threshold: float
    pieces: TimedPieces

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
    spectrogram: features.Spectrogram
    stride_frames: int

    def judge(self, samples: np.ndarray) -> ClipResult:
        """Score a clip int16 (s,) of any length that has a piece; raises InputError where the score is not finite."""
        of_members = [distances for part in self.parts for distances in self._distances(part, samples)]
        clip = np.mean([float(scale(np.array([pooled(pieces, self.scoring)]))[0]) for pieces, scale in of_members])
        scores = np.mean([scale(pieces.astype(np.float64)) for pieces, scale in of_members], axis=0)
        if not np.isfinite([clip, *scores]).all():
            raise InputError(f"expected a finite score, got {clip}; evaluate another checkpoint or with larger banks")
        pieces = time_pieces(len(samples), scores, self.spectrogram, self.stride_frames)
        return ClipResult(float(clip), self.threshold.value, pieces)

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


class Opened(NamedTuple):
    """A system for all sections of one machine type, its checkpoints loaded; `limits` are its thresholds."""

    config: Config
    machine: str
    ensemble: str
    limits: Thresholds
    checkpoints: Sequence[tuple[Checkpoint, Loaded]]

    @property
    def places(self) -> list[tuple[str, Domain | None]]:
        """Return the sections that have a bank, sorted; each with its domains where banks or thresholds go by them.

        The domain is None where it is no input, and for clips of unknown domain where only thresholds go by it.
        """
        first, _ = self.checkpoints[0]
        clips = [clip for clip in first.kept.bank.clips if clip.machine == self.machine]
        evaluate = self.config.evaluate
        places: set[tuple[str, Domain | None]] = set()
        for clip in clips:
            if evaluate.bank != "same_domain":
                places.add((clip.section, None))
            if _by_domain(self.config):
                places.add((clip.section, clip.domain))
        return sorted(places, key=repr)

    def detector(self, section: str, domain: Domain | None) -> Detector:
        """Make the detector for clips of a section; of an unknown domain, the section's threshold decides.

        Raises InputError where the section has no bank or threshold, or its banks need a domain.
        """
        field = _by_domain(self.config)
        if field == "bank" and domain is None:
            raise InputError("--domain: expected source or target, as config.evaluate.bank goes by it, got none")
        clip = Clip(Path("clip"), self.machine, section, "test", domain, None)
        parts = [self._part(*checkpoint, clip) for checkpoint in self.checkpoints]
        if domain and not field:
            log(f"--domain {domain}: of no effect, as config.evaluate.bank and .threshold_per do not ask for it")
        evaluate = self.config.evaluate
        limit = find_threshold(clip, self.limits, evaluate.threshold_per)
        spectrogram = features.make_spectrogram(self.config)
        return Detector(parts, Scoring.of(self.config), limit, spectrogram, evaluate.stride_frames)

    def _part(self, checkpoint: Checkpoint, loaded: Loaded, clip: Clip) -> Part:
        if not checkpoint.bank_for(clip):
            sections = dict.fromkeys(section for section, _ in self.places)
            raise InputError(f"--section {clip.section}: expected one of {', '.join(sections)} of {clip.machine}")
        return Part(checkpoint.name, *loaded, checkpoint.members(clip, self.ensemble))


def open_detector(
    evaluation: Evaluation, system: str | None, machine: str, section: str, domain: Domain | None
) -> Detector:
    """Put a system of an evaluation together for clips of one machine type and section.

    `domain` is needed only where banks go by it; the rest as in `open_system`.
    """
    loaded = open_system(evaluation, system, machine)
    domains = {of_place for known, of_place in loaded.places if known == section and of_place}
    if domain is None and len(domains) > 1 and _by_domain(loaded.config) == "threshold_per":
        log(
            "no --domain: the threshold of the whole section decides; --domain source or target takes that domain's own"
        )
    detector = loaded.detector(section, domain)
    results.require_same(evaluation.folder, evaluation.results)
    return detector


def open_system(evaluation: Evaluation, system: str | None, machine: str) -> Opened:
    """Load a system of an evaluation for clips of one machine type.

    `system`: by default all models; with several seeds `<name>@<seed>`, or the first seed's. Raises InputError for what
    is not there.
    """
    found = evaluation.results
    described = _chosen(found["systems"], found["models"], system)
    if machine not in described["members"]:
        raise InputError(f"--machine {machine}: expected one of {', '.join(described['members'])}")
    models = described["members"][machine]
    loaded = [(checkpoint, checkpoint.load()) for checkpoint in evaluation.checkpoints(machine, models)]
    ensemble = ensembles.averaged(evaluation.config, len(models))
    return Opened(evaluation.config, machine, ensemble, _thresholds(described), loaded)


def _chosen(systems: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], system: str | None) -> Mapping:
    """What tells of a system's members and thresholds; baselines are none, as their models are not kept."""
    usable: dict[str, Mapping[str, Any]] = {}
    for name, described in systems.items():
        for seed in described.get("by_seed", [None]):
            of_seed = results.of_seed(described, seed)
            if all(set(names) <= models.get(machine, {}).keys() for machine, names in of_seed["members"].items()):
                usable[f"{name}@{seed}" if seed else name] = of_seed
    name = system or (ensembles.ALL_SEEDS if ensembles.ALL_SEEDS in usable else ensembles.ALL)
    if name not in usable and name in systems and "by_seed" in systems[name]:
        first, *others = (f"{name}@{seed}" for seed in systems[name]["by_seed"])
        log(f"--system {name}: taking {first}; there are {', '.join(others)} too")
        name = first
    if name not in usable:
        raise InputError(f"--system {name}: expected one of {', '.join(usable)}")
    return usable[name]


def _by_domain(config: Config) -> str | None:
    """The field of `config.evaluate`, if any, that makes banks or thresholds go by domains."""
    fields = (("bank", "same_domain"), ("threshold_per", "section_domain"))
    return next((field for field, value in fields if config.evaluate[field] == value), None)


def _thresholds(described: Mapping[str, Any]) -> Thresholds:
    return {
        (row["machine"], row["section"], row["domain"]): Threshold(*(row[field] for field in Threshold._fields))
        for row in described["thresholds"]
    }
