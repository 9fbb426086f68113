"""Map of a model's embeddings or of log-mel statistics: clips that sound alike to a detector are close together.

Letters: n clips, d embedding.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn.decomposition import PCA

from asdjax.data.clips import Clip
from asdjax.inference.stored_embeddings import Embedded
from asdjax.report.figures import (
    ANOMALY,
    FAINT,
    NORMAL,
    PURPLE,
    TRAINING,
    Picture,
    add_legend,
    make_label,
    make_picture,
)
from asdjax.report.piece_scores import ExplainedDetectors, ModelKey

_MOST_CLIPS = 600  # of the bank and of the test clips each; evenly thinned beyond
_COLUMNS = 3


class MapPoint(NamedTuple):
    """Position of a clip on the map."""

    clip: Clip
    x: float
    y: float


class EmbeddingMap(NamedTuple):
    """Training and test clips of a machine type, and each axis's share of the training clips' variance."""

    bank: list[MapPoint]
    test: list[MapPoint]
    variance: tuple[float, float]


class Look(NamedTuple):
    """Legend entry, marker and colour of a group of clips."""

    name: str
    marker: str
    colour: str


#: By the label of test clips.
_LOOKS: Mapping[str | None, Look] = {
    "normal": Look("test, normal", "o", NORMAL),
    "anomaly": Look("test, anomaly", "x", ANOMALY),
    None: Look("test, label unknown", "^", PURPLE),
}


def find_typical_model(models: ExplainedDetectors, machine: str, scores: Mapping[Clip, float]) -> ModelKey:
    """Return the model or simple detector whose scores rank the test clips most like the headline system's `scores`.

    No labels are used.
    """

    def correlate(key: ModelKey) -> float:
        own = models.stored(key).scores_of(key.variant, machine).test
        clips = [clip for clip in scores if clip in own]
        values = [own[clip] for clip in clips]
        if len(set(values)) < 2 or len(set(scores.values())) < 2:
            return -1.0
        ranks = [rankdata(values), rankdata([scores[clip] for clip in clips])]
        return float(np.nan_to_num(np.corrcoef(ranks)[0, 1], nan=-1.0))

    return max(models.keys, key=correlate)


def make_map(models: ExplainedDetectors, key: ModelKey, machine: str, shown: Sequence[Clip]) -> EmbeddingMap:
    """Project the clips' vectors onto the first two principal axes of a machine type's training clips.

    `shown` are the test clips. Clips whose vector is not finite are left out.
    """
    stored = models.stored(key)
    wanted = set(shown)
    bank = _thin([i for i, clip in enumerate(models.bank_clips) if clip.machine == machine])
    test = _thin([i for i, clip in enumerate(models.test_clips) if clip in wanted])
    bank, test = (
        _drop_non_finite(models, part, key, numbers) for part, numbers in ((stored.bank, bank), (stored.test, test))
    )
    vectors = models.compute_clip_vectors(stored.bank, key, bank).astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal clips have no variance to share
        axes = PCA(2, svd_solver="full").fit(vectors)
    positions = np.empty((0, 2))
    if test:
        positions = axes.transform(models.compute_clip_vectors(stored.test, key, test).astype(np.float64))
    first, second = np.nan_to_num(axes.explained_variance_ratio_).tolist()
    return EmbeddingMap(
        [MapPoint(models.bank_clips[i], *at) for i, at in zip(bank, axes.transform(vectors).tolist(), strict=True)],
        [MapPoint(models.test_clips[i], *at) for i, at in zip(test, positions.tolist(), strict=True)],
        (first, second),
    )


def _drop_non_finite(models: ExplainedDetectors, part: Embedded, key: ModelKey, numbers: Sequence[int]) -> list[int]:
    finite = np.isfinite(models.compute_clip_vectors(part, key, numbers)).all(axis=1) if numbers else []
    return [number for number, is_finite in zip(numbers, finite, strict=True) if is_finite]


def _thin(numbers: Sequence[int]) -> list[int]:
    return list(numbers[:: max(-(-len(numbers) // _MOST_CLIPS), 1)])


def make_map_picture(machine: str, model: str, shown: EmbeddingMap) -> Picture:
    """Return the picture of a map."""
    sections = list(dict.fromkeys(point.clip.section for point in shown.test or shown.bank))
    columns = 2 if len(sections) == 4 else min(_COLUMNS, len(sections))
    rows = -(-len(sections) // columns)
    return make_picture(
        lambda figure: _plot(figure, shown, sections, columns),
        1.3 + 4.0 / columns * rows,
        alt=f"Map of embeddings of {machine}: {len(shown.bank)} training and {len(shown.test)} test clips on two "
        f"principal axes, a panel for each of {len(sections)} sections",
        caption=f"Each point is a clip. Clips that sound alike to {model} are close together, and faults should be "
        "far from the normal training clips. Of all parts of the headline system, this one ranks the clips most like "
        "the whole. The axes are principal axes without a unit; the percentages are their shares of the training "
        "clips' variance.",
    )


def _plot(figure: Figure, shown: EmbeddingMap, sections: Sequence[str], columns: int) -> None:
    """Plot a panel for each section."""
    grid = figure.subplots(-(-len(sections) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes, section in zip(grid.flat, sections, strict=False):
        _plot_section(axes, shown, section)
    for axes in grid.flat[len(sections) :]:
        axes.remove()
    first, second = (round(100 * share) for share in shown.variance)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"second axis ({second} %)")
    for axes in grid.flat[max(len(sections) - columns, 0) : len(sections)]:
        axes.set_xlabel(f"first axis ({first} %)")
        axes.tick_params(labelbottom=True)
    add_legend(figure, 2)


def _plot_section(axes: Axes, shown: EmbeddingMap, section: str) -> None:
    """Plot a section's clips, and the training clips of the other sections faintly."""
    others = [point for point in shown.bank if point.clip.section != section]
    own = [point for point in shown.bank if point.clip.section == section]
    _scatter(axes, others, Look("training, other sections", ".", FAINT), 16)
    _scatter(axes, own, Look("training, normal", ".", TRAINING), 22)
    for label, look in _LOOKS.items():
        test = [point for point in shown.test if (point.clip.section, point.clip.label) == (section, label)]
        _scatter(axes, test, look, 20)
    axes.set_title(make_label(f"section {section}"))


def _scatter(axes: Axes, points: Sequence[MapPoint], look: Look, size: float) -> None:
    if not points:
        return
    x, y = [point.x for point in points], [point.y for point in points]
    dots = axes.scatter(x, y, s=size, marker=look.marker, color=look.colour, linewidths=1.0, label=look.name)
    if look.marker in "o^":
        dots.set_facecolor("none")
