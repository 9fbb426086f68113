"""Why a clip was judged as it was: when, at which frequencies, and what the closest normal clip is.

Letters: p pieces, n bands.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data import store
from asdjax.data.access import store_folder
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.features import Spectrogram
from asdjax.fleet import embed
from asdjax.inference.anomalous_seconds import Spans, TimedPieces, time_pieces
from asdjax.report import occlusion
from asdjax.report.clip_selection import Chosen
from asdjax.report.occlusion import Pair
from asdjax.report.piece_scores import ModelKey, Models
from asdjax.report.report_inputs import ReportedFleet
from asdjax.runtime.progress import progress

SWAPPED_PIECES = 4
"""Of a clip, the highest-scoring, in which bands are swapped: each band takes all models once more."""


class Bands(NamedTuple):
    """What bands contribute to the highest-scoring pieces: `edges_hz` (n + 1,), the pieces' mean score `before`, and
    `after` (n,), what it is with each band swapped for normal sound."""

    edges_hz: np.ndarray
    before: float
    after: np.ndarray

    @property
    def fall(self) -> np.ndarray:
        """What the score falls by with each band swapped, (n,); below 0 where it rises."""
        return self.before - self.after


class Explanation(NamedTuple):
    """A clip explained, with its samples and those of the `neighbour`, the nearest normal training clip, int16 (s,),
    whose mean embedding has this `cosine` to the clip's."""

    chosen: Chosen
    samples: np.ndarray
    pieces: TimedPieces
    bands: Bands
    neighbour: Clip
    neighbour_samples: np.ndarray
    cosine: float

    @property
    def anomalous(self) -> Spans:
        """The seconds of the pieces whose score is above the clip's threshold, joined where they touch."""
        return self.pieces.above(self.chosen.row.threshold)


class _Asked(NamedTuple):
    """A clip before its bands are known."""

    chosen: Chosen
    clip: Clip
    samples: np.ndarray
    pieces: TimedPieces
    neighbour: Clip
    neighbour_samples: np.ndarray
    cosine: float
    pairs: list[Pair]
    highest: np.ndarray


def explain(workdir: Path, config: Config, of_fleet: ReportedFleet, chosen: Sequence[Chosen]) -> list[Explanation]:
    """Explain clips of a fleet's machine types.

    Raises InputError where the sound of a clip, or the judged checkpoint, is no longer there.
    """
    if not chosen:
        return []
    models = Models(of_fleet, config)
    asked = _asked(workdir, config, models, features.make_spectrogram(config), chosen)
    vectors = _swapped(of_fleet, [pair for one in asked for pair in one.pairs], config.evaluate.batch_size)
    begins = np.cumsum([0, *(len(one.pairs) for one in asked)])
    return [
        _explanation(models, one, {key: of_model[begin : begin + len(one.pairs)] for key, of_model in vectors.items()})
        for one, begin in zip(asked, begins, strict=False)
    ]


def _asked(
    workdir: Path, config: Config, models: Models, spectrogram: Spectrogram, chosen: Sequence[Chosen]
) -> list[_Asked]:
    numbers = [
        models.number_of(one.row.clip.machine, one.row.clip.section, one.row.clip.domain, one.row.clip.name)
        for one in chosen
    ]
    nearest = [models.nearest(number) for number in numbers]
    own = [models.test_clips[number] for number in numbers]
    neighbours = [models.bank_clips[number] for number, _ in nearest]
    samples = _samples(workdir, config, {clip: models.digests[clip] for clip in own + neighbours})
    out = []
    for one, number, clip, neighbour, (_, cosine) in zip(chosen, numbers, own, neighbours, nearest, strict=True):
        sound, other = samples[clip], samples[neighbour]
        score = models.score(clip, models.vectors_of(number))
        pieces = time_pieces(len(sound), score, spectrogram, config.evaluate.stride_frames)
        highest = np.sort(np.argsort(-score, kind="stable")[:SWAPPED_PIECES])
        pairs = _pairs(sound, other, highest, spectrogram, config.evaluate.stride_frames)
        out.append(_Asked(one, clip, sound, pieces, neighbour, other, cosine, pairs, highest))
    return out


def _samples(workdir: Path, config: Config, digests: Mapping[Clip, str]) -> dict[Clip, np.ndarray]:
    """The sound of clips, given with its SHA-256."""
    folder = store_folder(config, workdir)
    found: dict[Clip, np.ndarray] = {}
    for machine in {clip.machine: None for clip in digests}:
        of_machine = [clip for clip in digests if clip.machine == machine]
        held = store.load_samples(folder, machine, {clip.path: digests[clip] for clip in of_machine})
        found |= {clip: held[clip.path] for clip in of_machine}
    return found


def _pairs(
    own: np.ndarray, normal: np.ndarray, highest: np.ndarray, spectrogram: Spectrogram, stride_frames: int
) -> list[Pair]:
    """The samples under pieces of a clip, and under those of the same time of a normal one, which is repeated where it
    is shorter."""
    starts, others = (embed.piece_starts(len(samples), spectrogram, stride_frames) for samples in (own, normal))
    length = spectrogram.piece_samples
    return [
        Pair(
            features.crop(own, features.first_sample(starts[k], spectrogram), length),
            features.crop(normal, features.first_sample(others[k % len(others)], spectrogram), length),
        )
        for k in highest.tolist()
    ]


def _swapped(of_fleet: ReportedFleet, pairs: Sequence[Pair], batch_size: int) -> Mapping[ModelKey, np.ndarray]:
    """Embeddings (q, n, d) of every model that was judged, at the steps that were judged."""
    vectors: dict[ModelKey, np.ndarray] = {}
    with progress(f"{of_fleet.name} explain", len(of_fleet.checkpoints), "checkpoint") as shown:
        for line, checkpoint in of_fleet.checkpoints.items():
            try:
                spec, model = checkpoint.load()
            except InputError as error:
                raise InputError(f"{error}, or report with --clips 0") from None
            for variant, of_variant in occlusion.swapped(spec, model, pairs, batch_size).items():
                vectors[ModelKey(line, variant)] = of_variant
            shown.update()
    return vectors


def _explanation(models: Models, one: _Asked, vectors: Mapping[ModelKey, np.ndarray]) -> Explanation:
    shape = next(iter(vectors.values())).shape
    flat = {key: of_model.reshape(-1, shape[-1]) for key, of_model in vectors.items()}
    after = models.score(one.clip, flat).reshape(shape[:2]).mean(axis=0)
    before = float(one.pieces.score[one.highest].mean())
    edges = occlusion.edges_hz(features.make_spectrogram(models.config))
    return Explanation(
        one.chosen,
        one.samples,
        one.pieces,
        Bands(edges, before, after),
        one.neighbour,
        one.neighbour_samples,
        one.cosine,
    )
