"""What an evaluation asks of configuration and corpus, and what it says of them, before anything is computed."""

from collections import Counter
from collections.abc import Iterable, Sequence

from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips
from asdjax.data.clips import Clip, Corpus
from asdjax.errors import InputError
from asdjax.features import make_spectrogram
from asdjax.fleet import embed
from asdjax.inference.bank import bank_group, bank_grouping, group_clips
from asdjax.runtime.progress import log


def require_allowed(config: Config, corpus: Corpus) -> None:
    """Raise InputError where banks or thresholds go by the domain of test clips, and the corpus' year forbids it."""
    for field, value, instead in (
        ("bank", "same_domain", "section or either_domain"),
        ("threshold_per", "section_domain", "section or machine"),
    ):
        if corpus.layout == "dcase2022" and config.evaluate[field] == value:
            raise InputError(
                f"config.evaluate.{field}: {value} needs the domain of a test clip, which from 2022 on is no input; "
                f"set it to {instead}"
            )


def require_density(config: Config, corpus: Corpus) -> None:
    """See that every bank has two clips, without which none can tell how dense it is; of two domains one may lend its
    density to the other."""
    if config.evaluate.backend != "knn_density":
        return
    most: dict[tuple[str | None, ...], int] = {}
    for (machine, section, domain), clips in group_clips(
        corpus.select(split="train"), bank_grouping(config.evaluate.bank)
    ).items():
        key = (machine, section, None if config.evaluate.bank == "either_domain" else domain)
        most[key] = max(most.get(key, 0), len(clips))
    if alone := sorted(" ".join(filter(None, key)) for key, number in most.items() if number < 2):
        raise InputError(
            f"config.evaluate.backend: knn_density needs two training clips in every bank, found one for "
            f"{', '.join(alone)}; add some, or set it to knn"
        )


def select_test_clips(corpus: Corpus, split: str) -> list[Clip]:
    """The test clips of a split; none, and it is said, where the corpus has no test clip at all: then there is a
    detector to make, and nothing to judge it by."""
    test = corpus.select(split="test")
    judged = [clip for clip in test if clip.blind == (split == "eval")]
    if test and not judged:
        kind, other = ("labelled", "eval") if split == "dev" else ("unlabelled", "dev")
        raise InputError(
            f"config.data.root: expected {kind} test clips for --split {split}, found none; the others are judged by "
            f"--split {other}"
        )
    if not test:
        log("no test clips, so nothing is judged; score, export and report go on from banks and thresholds")
    return judged


def select_scorable(config: Config, corpus: Corpus, judged: Sequence[Clip], split: str) -> list[Clip]:
    """The clips that have training clips to be scored against; says how many of which sections have none.

    Raises InputError where that is all of them or, as a submission must have every row, any of the split `eval`.
    """
    banks = group_clips(corpus.select(split="train"), config.evaluate.bank).keys()
    known = {clip for clip in judged if bank_group(clip, config.evaluate.bank) in banks}
    left_out = Counter(f"{clip.machine} {clip.section}" for clip in judged if clip not in known)
    counts = ", ".join(f"{number} of {section}" for section, number in sorted(left_out.items()))
    if left_out and (split == "eval" or not known):
        raise InputError(
            "config.data.root: expected training clips to score every section's test clips against, found none for "
            f"{counts}; add them (for an evaluation set: the additional training data)"
        )
    if left_out:
        log(f"test clips left out, as they have no training clips to be scored against: {counts}")
    return [clip for clip in judged if clip in known]


def log_small_banks(config: Config, recorded: Iterable[RecordedClips]) -> None:
    """Say which banks have fewer pieces than nearest ones are averaged, beside a training clip's own."""
    settings, spectrogram = config.evaluate, make_spectrogram(config)
    if not settings.backend.startswith("knn"):
        return
    few = {}
    for clips, recordings in recorded:
        pieces = [len(embed.piece_starts(len(one.samples), spectrogram, settings.stride_frames)) for one in recordings]
        for key, members in group_clips(clips, bank_grouping(settings.bank)).items():
            of_bank = [pieces[clip] for clip in members]
            if (number := sum(of_bank) - max(of_bank)) < settings.k:
                few[" ".join(filter(None, key))] = number
    if few:
        told = ", ".join(f"{name} ({number})" for name, number in sorted(few.items()))
        smote = ", without what SMOTE adds" if settings.smote_ratio else ""
        log(
            f"config.evaluate.k: {settings.k} nearest pieces are averaged; beside a clip's own there are fewer for "
            f"{told}{smote}"
        )
