"""Checks of configuration and corpus before an evaluation computes anything."""

from collections import Counter
from collections.abc import Iterable, Sequence

from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips
from asdjax.data.clips import Clip, Corpus
from asdjax.errors import InputError
from asdjax.features import make_spectrogram
from asdjax.fleet import embed
from asdjax.inference.backends import FEWEST_WITH_DENSITY
from asdjax.inference.bank import choose_grouping, group_clips, make_bank_key
from asdjax.runtime.progress import log


def require_allowed(config: Config, corpus: Corpus) -> None:
    """Raise InputError if banks or thresholds use the domain of test clips and the rules of the year forbid it."""
    for field, value, allowed in (
        ("bank", "same_domain", "section or either_domain"),
        ("threshold_per", "section_domain", "section or machine"),
    ):
        if corpus.layout == "dcase2022" and config.evaluate[field] == value:
            raise InputError(
                f"config.evaluate.{field}: {value} needs the domain of a test clip, which is unknown from 2022 on; "
                f"set it to {allowed}"
            )


def select_test_clips(corpus: Corpus, split: str) -> list[Clip]:
    """Return the test clips of a split.

    Logs if the corpus has no test clips at all: such an evaluation still makes banks and thresholds. Raises InputError
    if only the other split has test clips.
    """
    test = corpus.select(split="test")
    selected = [clip for clip in test if clip.blind == (split == "eval")]
    if test and not selected:
        kind, other = ("labelled", "eval") if split == "dev" else ("unlabelled", "dev")
        raise InputError(
            f"config.data.root: expected {kind} test clips for the split {split}, got none; evaluate the split {other}"
        )
    if not test:
        log("no test clips: nothing is evaluated, but score, export and report can use the banks and thresholds")
    return selected


def select_scorable(config: Config, corpus: Corpus, clips: Sequence[Clip], split: str) -> list[Clip]:
    """Return the test clips whose bank has training clips, and log the number of the others by section.

    Raises InputError if no clip has a bank. For the split "eval" it raises InputError if any clip has none, because a
    submission needs every row.
    """
    banks = group_clips(corpus.select(split="train"), config.evaluate.bank).keys()
    known = {clip for clip in clips if make_bank_key(clip, config.evaluate.bank) in banks}
    left_out = Counter(f"{clip.machine} {clip.section}" for clip in clips if clip not in known)
    counts = ", ".join(f"{number} of {section}" for section, number in sorted(left_out.items()))
    if left_out and (split == "eval" or not known):
        raise InputError(
            "config.data.root: expected training clips for every section that has test clips, got none for "
            f"{counts}; add them (for an evaluation set: the additional training data)"
        )
    if left_out:
        log(f"test clips left out, because their section has no training clips: {counts}")
    return [clip for clip in clips if clip in known]


def log_small_banks(config: Config, recorded: Iterable[RecordedClips]) -> None:
    """Log the banks with fewer than k pieces of other clips for a training clip, and those too small for a density."""
    settings, spectrogram = config.evaluate, make_spectrogram(config)
    if not settings.backend.startswith("knn"):
        return
    few, without_density = {}, []
    for clips, recordings in recorded:
        if settings.backend == "knn_density":
            banks = group_clips(clips, settings.bank).items()
            without_density += [" ".join(filter(None, key)) for key, own in banks if len(own) < FEWEST_WITH_DENSITY]
        pieces = [
            len(embed.list_piece_starts(len(one.samples), spectrogram, settings.stride_frames)) for one in recordings
        ]
        for key, members in group_clips(clips, choose_grouping(settings.bank)).items():
            bank_pieces = [pieces[clip] for clip in members]
            if (number := sum(bank_pieces) - max(bank_pieces)) < settings.k:
                few[" ".join(filter(None, key))] = number
    if without_density:
        log(
            f"banks of fewer than {FEWEST_WITH_DENSITY} clips, which knn_density scores as knn: "
            f"{', '.join(sorted(without_density))}"
        )
    if few:
        banks = ", ".join(f"{name} ({number})" for name, number in sorted(few.items()))
        smote = ", without those that SMOTE adds" if settings.smote_ratio else ""
        log(
            f"banks with fewer than k = {settings.k} (config.evaluate.k) pieces of other clips{smote}: {banks}; all "
            "their pieces are averaged"
        )
