"""Systems of an evaluation, loaded from disk, and the detectors that they make for new clips of a section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.fleet import embed
from asdjax.fleet.runs import add_seed
from asdjax.inference import alarm_rates, ensembles, extended_bank, log_mel_statistics, stored_results
from asdjax.inference.alarm_rates import AlarmRate
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import Combination, combine, make_combination
from asdjax.inference.detector import CheckpointModels, SectionDetector
from asdjax.inference.extended_bank import Change
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, Loaded
from asdjax.inference.off_rule import OffRule
from asdjax.inference.stored_embeddings import Checkpointed
from asdjax.inference.thresholds import Threshold, ThresholdRule, Thresholds, find_threshold, fit_all
from asdjax.runtime.progress import log


@dataclass(frozen=True, kw_only=True)
class LoadedSystem:
    """A system for all sections of one machine type, with its models loaded.

    `normaliser` is a key of `ensembles.NORMALISERS`. `simple` names the simple detectors, whose data are `statistics`.
    `clip_seconds` is the usual length of a training clip. `mixed` has by section and domain the scores of normal clips
    that faults were mixed into, if the evaluation measured the system's sensitivity.
    """

    config: Config
    machine: str
    normaliser: str
    thresholds: Thresholds
    checkpoints: Sequence[tuple[Checkpoint, Loaded]]
    simple: tuple[str, ...]
    statistics: Checkpointed
    clip_seconds: float
    mixed: Mapping[str, Mapping[str, Sequence[float]]]

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

    def find_section(self, section: str | None) -> str:
        """Return the section, or the only one of the machine type for None. Raises InputError if there are several."""
        sections = list(dict.fromkeys(known for known, _ in self.places))
        if section is None and len(sections) > 1:
            raise InputError(f"section: expected one of {', '.join(sections)} of {self.machine}, got none; give it")
        return sections[0] if section is None else section

    def make_detector(self, section: str, domain: Domain | None, rate: AlarmRate | None = None) -> SectionDetector:
        """Make the detector for clips of a section. The section's threshold decides clips of an unknown domain.

        The threshold is that of the evaluation, or one for a rate of false alarms, which is logged. Raises InputError
        if the section has no bank or threshold, if its banks need a domain, or if no threshold gives the rate.
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
        spectrogram, stride = features.make_spectrogram(self.config), self.config.evaluate.stride_frames
        usual_samples = round(self.clip_seconds * spectrogram.sample_rate_hz)
        simple = log_mel_statistics.make_detectors(self.statistics, self.simple, section, spectrogram.sample_rate_hz)
        return SectionDetector(
            parts=parts,
            simple=simple,
            combination=self._make_combination(section),
            scoring=Scoring.from_config(self.config),
            threshold=self._choose_threshold(clip, rate),
            spectrogram=spectrogram,
            stride_frames=stride,
            off=OffRule.fit(log_mel_statistics.select_section(self.statistics, section)),
            clip_pieces=len(embed.list_piece_starts(usual_samples, spectrogram, stride)),
        )

    def _choose_threshold(self, clip: Clip, rate: AlarmRate | None) -> Threshold:
        evaluated = find_threshold(clip, self.thresholds, self.config.evaluate.threshold_per)
        if rate is None:
            return evaluated
        rule = ThresholdRule.from_config(self.config)
        chosen = alarm_rates.fit_rate(self.score_training(), clip, rate, self.clip_seconds, rule)
        mixed = self.mixed.get(clip.section, {})
        of_domain = [score for domain, scores in mixed.items() if clip.domain in (None, domain) for score in scores]
        log(alarm_rates.describe(chosen, evaluated, of_domain))
        return chosen

    def extend(self, change: Change) -> Self:
        """Return the system with changed banks, and with thresholds fitted to the scores of their clips."""
        if not change:
            return self
        checkpoints = [
            (replace(one, kept=extended_bank.extend_checkpoint(one, loaded, change)), loaded)
            for one, loaded in self.checkpoints
        ]
        rate = self.config.signal.sample_rate_hz
        statistics = extended_bank.extend_statistics(self.statistics, change, rate)
        extended = replace(self, checkpoints=checkpoints, statistics=statistics)
        return replace(extended, thresholds=fit_all(extended.score_training(), ThresholdRule.from_config(self.config)))

    def score_training(self) -> dict[Clip, float]:
        """Return the system's scores of the machine type's training clips, each without its own pieces."""
        detectors = self._list_scores()
        return combine(detectors).train if len(detectors) > 1 else detectors[0].train

    def _make_part(self, checkpoint: Checkpoint, loaded: Loaded, clip: Clip) -> CheckpointModels:
        return CheckpointModels(checkpoint.name, *loaded, checkpoint.members(clip, self.normaliser))

    def _make_combination(self, section: str) -> Combination | None:
        """Return the combination of the models' average, if any, and the simple detectors; None for a single one."""
        detectors = self._list_scores()
        return make_combination(detectors, section) if len(detectors) > 1 else None

    def _list_scores(self) -> list[ClipScores]:
        """Return the scores of the models' average, if any, and of the simple detectors."""
        models = [
            checkpoint.kept.scores_of(variant, self.machine)
            for checkpoint, _ in self.checkpoints
            for variant in checkpoint.variants
        ]
        detectors = [ensembles.average(models, self.normaliser)] if models else []
        return detectors + [self.statistics.scores_of(name, self.machine) for name in self.simple]

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


class DetectorSource(NamedTuple):
    """The choice of a detector: a system of an evaluation for clips of one machine type and section.

    `system` is as in `open_system`, and a `section` of None is the only one of the machine type. `domain` is required
    only if banks depend on it, and `rate` is as in `LoadedSystem.make_detector`.
    """

    evaluation: Evaluation
    system: str | None
    machine: str
    section: str | None
    domain: Domain | None
    rate: AlarmRate | None = None


def open_detector(source: DetectorSource) -> SectionDetector:
    """Make a detector, with banks that have the clips accepted by now; raises InputError as `open_system`."""
    evaluation, system, machine, section, domain, rate = source
    if domain not in (None, "source", "target"):
        raise InputError(f"domain {domain}: expected source or target; give one of them, or none")
    loaded = open_system(evaluation, system, machine)
    section = loaded.find_section(section)
    if domain is None:
        loaded.warn_without_domain(section)
    detector = loaded.make_detector(section, domain, rate)
    stored_results.require_unchanged(evaluation.folder, evaluation.results)
    return detector


def open_system(evaluation: Evaluation, system: str | None, machine: str) -> LoadedSystem:
    """Load a system as `load_evaluated`, with the clips accepted by now in its banks, and log if these have changed."""
    loaded = load_evaluated(evaluation, system, machine)
    change = extended_bank.find_change(evaluation, machine)
    if change:
        log(extended_bank.describe(change))
    return loaded.extend(change)


def load_evaluated(evaluation: Evaluation, system: str | None, machine: str) -> LoadedSystem:
    """Load a system of an evaluation for clips of one machine type; by default the evaluation's default system.

    With several seeds it is `<name>@<seed>`; a bare name takes the first seed. Raises InputError for an unknown system
    or machine type, and if models or banks are missing or damaged.
    """
    name, entry = _select_system(evaluation.results, system)
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
        clip_seconds=evaluation.results["clip_seconds"][machine],
        mixed=evaluation.results["sensitivity"].get(name, {}).get(machine, {}).get("scores", {}),
    )


def _select_system(results: Mapping[str, Any], system: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return the name, with its seed, and the entry of a system with thresholds and members.

    The auto-encoder is not among them, as it is not stored with the evaluation.
    """
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
    return name, usable[name]
