"""Banks with the clips that were accepted after an evaluation, and without those whose acceptance was undone.

An evaluation takes accepted clips into its banks itself. Until the next one, `score`, `listen` and `export` extend the
banks that it stored; its own files stay as they are. Embeddings of judged clips are kept in
W/feedback/embeddings/<model>/<SHA-256 of the samples>.npz.

Letters: p pieces, d embedding.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax.data import feedback
from asdjax.data.access import RecordedClips
from asdjax.fleet import embed
from asdjax.fleet.embed import Embeddings
from asdjax.inference import clip_scores, log_mel_statistics
from asdjax.inference.bank import Scoring
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, Loaded
from asdjax.inference.stored_embeddings import Checkpointed, Embedded

_EMBEDDINGS = "embeddings"


class Change(NamedTuple):
    """Clips to add to the banks of a machine type; section, domain and SHA-256 of the samples of those to remove."""

    added: RecordedClips
    removed: frozenset[tuple[str, str | None, str]]

    def __bool__(self) -> bool:
        return bool(self.added.clips or self.removed)

    def list_sections(self, bank: Embedded) -> set[tuple[str, str]]:
        """Return machine type and section of the clips that are added to a stored bank or removed from it."""
        kept = set(self.list_kept(bank))
        changed = [*self.added.clips, *(clip for number, clip in enumerate(bank.clips) if number not in kept)]
        return {(clip.machine, clip.section) for clip in changed}

    def list_kept(self, bank: Embedded) -> list[int]:
        """Return the numbers of the clips of a stored bank that are not removed from it."""
        known = enumerate(zip(bank.clips, bank.digests, strict=True))
        return [i for i, (clip, sha256) in known if (clip.section, clip.domain, sha256) not in self.removed]


def find_change(evaluation: Evaluation, machine: str) -> Change:
    """Return by what the accepted clips differ from those that an evaluation has in its banks of a machine type.

    Raises InputError if the journal or a recording is damaged.
    """
    judgements = feedback.read_judgements(evaluation.workdir, "accept", machine)
    accepted = {(one.section, one.domain, clip.sha256) for one in judgements for clip in one.clips}
    evaluated = {
        (clip["section"], clip["domain"], clip["sha256"])
        for clip in evaluation.results["accepted"]
        if clip["machine"] == machine
    }
    kept = [
        one._replace(clips=tuple(clip for clip in one.clips if (one.section, one.domain, clip.sha256) not in evaluated))
        for one in judgements
    ]
    return Change(feedback.read_clips(evaluation.workdir, kept), frozenset(evaluated - accepted))


def extend_checkpoint(checkpoint: Checkpoint, loaded: Loaded, change: Change) -> Checkpointed:
    """Return what an evaluation stored of a checkpoint's models, with changed banks; the test clips are left out."""
    pieces = embed_judged(checkpoint, loaded, change.added)
    return _extend(checkpoint.kept, change, pieces, Scoring.from_config(checkpoint.config))


def extend_statistics(stored: Checkpointed, change: Change, sample_rate_hz: int) -> Checkpointed:
    """Return what an evaluation stored of the simple detectors, with changed banks; the test clips are left out."""
    statistics = [log_mel_statistics.compute_statistics(one, sample_rate_hz) for one in change.added.samples]
    shape = stored.bank.pieces.vectors[log_mel_statistics.MEAN].shape[1]
    wrapped = log_mel_statistics.wrap_statistics(np.array(statistics, np.float32).reshape(-1, 2, shape))
    return _extend(stored, change, wrapped, log_mel_statistics.SCORING)


def embed_judged(checkpoint: Checkpoint, loaded: Loaded, recorded: RecordedClips) -> Embeddings:
    """Return the embeddings of judged clips by a checkpoint's models: those that are kept, and the others computed."""
    parts = [_read(file) if (file := _locate(checkpoint, one.sha256)).exists() else None for one in recorded.recordings]
    parts = [part if part and set(checkpoint.variants) <= part.keys() else None for part in parts]
    missing = [number for number, part in enumerate(parts) if part is None]
    if missing:
        computed = _embed(checkpoint, loaded, [recorded.samples[number] for number in missing])
        for row, number in enumerate(missing):
            parts[number] = {name: of_all[computed.clip == row] for name, of_all in computed.vectors.items()}
    known = [part for part in parts if part is not None]
    vectors = {
        variant: np.concatenate([np.empty((0, embed.EMBEDDING), np.float32), *(part[variant] for part in known)])
        for variant in checkpoint.variants
    }
    counts = [len(part[checkpoint.variants[0]]) for part in known]
    return Embeddings(vectors, np.repeat(np.arange(len(known)), counts))


def keep_embeddings(checkpoint: Checkpoint, loaded: Loaded, recorded: RecordedClips) -> None:
    """Compute and keep the embeddings of judged clips, so that they are computed once."""
    pieces = embed_judged(checkpoint, loaded, recorded)
    for number, recording in enumerate(recorded.recordings):
        file = _locate(checkpoint, recording.sha256)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(
            content,
            allow_pickle=False,
            **{name: of_all[pieces.clip == number] for name, of_all in pieces.vectors.items()},
        )
        partial = file.with_suffix(".partial")
        partial.write_bytes(content.getvalue())
        partial.replace(file)


def _locate(checkpoint: Checkpoint, sha256: str) -> Path:
    """Return the file of a clip's embeddings, whose folder names all that they depend on besides the samples."""
    config = checkpoint.config
    settings = (checkpoint.digest, config.train.precision, config.evaluate.stride_frames)
    folder = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    return checkpoint.workdir / feedback.FOLDER / _EMBEDDINGS / folder / f"{sha256}.npz"


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """Return the embeddings of a file by variant; None if it is damaged."""
    with suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(io.BytesIO(file.read_bytes())) as arrays:
        return dict(arrays)
    return None


def _embed(checkpoint: Checkpoint, loaded: Loaded, samples: Sequence[np.ndarray]) -> Embeddings:
    settings = checkpoint.config.evaluate
    return embed.embed_clips(
        loaded.spec,
        loaded.model,
        samples,
        stride_frames=settings.stride_frames,
        batch_size=settings.batch_size,
        what=f"{checkpoint.name} accepted clips",
        quiet=True,
    )


def _extend(stored: Checkpointed, change: Change, added: Embeddings, scoring: Scoring) -> Checkpointed:
    """Change a bank, and score the training clips of the sections that have changed again."""
    sections = change.list_sections(stored.bank)
    bank = _join(_take(stored.bank, change.list_kept(stored.bank)), change.added, added)
    changed = [number for number, clip in enumerate(bank.clips) if (clip.machine, clip.section) in sections]
    part = _take(bank, changed)
    nothing = _take(bank, [])
    for variant, scores in bank.scores.items():
        found = clip_scores.score_by_banks(part.clips, part.pieces, [], nothing.pieces, variant, scoring).train
        scores[changed] = [found.get(clip, np.nan) for clip in part.clips]
    return Checkpointed(bank, nothing)


def _take(part: Embedded, numbers: Sequence[int]) -> Embedded:
    """Return the clips with some ascending numbers."""
    rows = np.flatnonzero(np.isin(part.pieces.clip, numbers))
    pieces = Embeddings(
        {variant: np.asarray(vectors[rows]) for variant, vectors in part.pieces.vectors.items()},
        np.searchsorted(np.asarray(numbers, np.int64), part.pieces.clip[rows]),
    )
    return Embedded(
        [part.clips[number] for number in numbers],
        [part.digests[number] for number in numbers],
        pieces,
        {variant: scores[list(numbers)] for variant, scores in part.scores.items()},
    )


def _join(part: Embedded, recorded: RecordedClips, added: Embeddings) -> Embedded:
    """Return a bank with further clips at its end, not scored."""
    number = len(recorded.clips)
    vectors: Mapping[str, np.ndarray] = part.pieces.vectors
    return Embedded(
        [*part.clips, *recorded.clips],
        [*part.digests, *(recording.sha256 for recording in recorded.recordings)],
        Embeddings(
            {variant: np.concatenate([of_bank, added.vectors[variant]]) for variant, of_bank in vectors.items()},
            np.concatenate([part.pieces.clip, added.clip + len(part.clips)]),
        ),
        {variant: np.append(scores, np.full(number, np.nan)) for variant, scores in part.scores.items()},
    )


def describe(change: Change) -> str:
    """Return what an evaluation does not know of the banks, for the log."""
    added, removed = len(change.added.clips), len(change.removed)
    parts = [f"{added} clip{'s' if added > 1 else ''} accepted"] if added else []
    parts += [f"the acceptance of {removed} undone"] if removed else []
    return f"banks differ from those of the evaluation ({', '.join(parts)} since); run asdjax evaluate for its figures"
