"""Acceptance of clips that a person found normal: they join the banks, and thresholds are fitted again."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from asdjax.data import feedback
from asdjax.data.access import RecordedClips, Recording
from asdjax.data.feedback import Judgement
from asdjax.errors import InputError
from asdjax.inference import extended_bank
from asdjax.inference.loaded_system import DetectorSource, LoadedSystem, load_evaluated
from asdjax.inference.thresholds import Threshold
from asdjax.runtime.progress import log


class Judged(NamedTuple):
    """A threshold, and the scores of the accepted clips: before, of new clips, and after, each against the others."""

    threshold: Threshold
    scores: list[float]

    @property
    def alarms(self) -> int:
        """Return the number of clips above the threshold."""
        return sum(score > self.threshold.value for score in self.scores)


class Acceptance(NamedTuple):
    """What the acceptance of clips has changed."""

    judgement: Judgement
    before: Judged
    after: Judged


def accept(source: DetectorSource, samples: Mapping[str, np.ndarray]) -> Acceptance:
    """Add clips, int16 (s,) by file name, to the banks of a detector's section, and return what that has changed.

    Without a domain they are of the source domain. No file of the evaluation or of a checkpoint changes. Raises
    InputError for a clip that is in the bank already, and if the disk is full or cannot be written.
    """
    system = load_evaluated(source.evaluation, source.system, source.machine)
    section = system.find_section(source.section)
    source = source._replace(section=section)
    earlier = system.extend(extended_bank.find_change(source.evaluation, source.machine))
    _require_new(earlier, samples)
    detector = earlier.make_detector(section, source.domain, source.rate)
    before = Judged(detector.threshold, [detector.score_clip(one).score for one in samples.values()])
    recordings = [Recording(one, feedback.compute_digest(one)) for one in samples.values()]
    for checkpoint, loaded in system.checkpoints:
        extended_bank.keep_embeddings(checkpoint, loaded, RecordedClips([], recordings))
    workdir, rate = source.evaluation.workdir, system.config.signal.sample_rate_hz
    new = Judgement(0, "", "accept", source.machine, section, source.domain or "source", "", ())
    judgement = feedback.add_judgement(workdir, new, samples, rate)
    return Acceptance(judgement, before, _judge_again(system, source, judgement))


def _judge_again(system: LoadedSystem, source: DetectorSource, judgement: Judgement) -> Judged:
    change = extended_bank.find_change(source.evaluation, source.machine)
    extended = system.extend(change)
    log(extended_bank.describe(change))
    detector = extended.make_detector(judgement.section, source.domain, source.rate)
    digests = {one.sha256 for one in judgement.clips}
    scores = extended.score_training()
    known = zip(extended.statistics.bank.clips, extended.statistics.bank.digests, strict=True)
    return Judged(detector.threshold, [scores[clip] for clip, sha256 in known if sha256 in digests and clip in scores])


def _require_new(system: LoadedSystem, samples: Mapping[str, np.ndarray]) -> None:
    bank = system.statistics.bank
    known = {
        sha256: f"{clip.path} of section {clip.section}" for sha256, clip in zip(bank.digests, bank.clips, strict=True)
    }
    for name, one in samples.items():
        sha256 = feedback.compute_digest(one)
        if sha256 in known:
            raise InputError(
                f"{name}: expected a clip that is in no bank yet, got the samples of {known[sha256]}; leave it out"
            )
        known[sha256] = name
