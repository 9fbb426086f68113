"""A map of one model's embeddings: clips that it takes for alike lie close together.

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
from asdjax.report.figures import ANOMALY, FAINT, NORMAL, PURPLE, TRAINING, Picture, label, legend_below, picture
from asdjax.report.piece_scores import ModelKey, Models, clip_means

_MOST = 600
"""Clips of the bank, and of the test clips, that are drawn; of more, every so many."""
_COLUMNS = 3


class MapPlace(NamedTuple):
    """A clip on the map and where it lies."""

    clip: Clip
    x: float
    y: float


class Map(NamedTuple):
    """Training and test clips of a machine type, and the share of the training clips' variance that each axis has."""

    bank: list[MapPlace]
    test: list[MapPlace]
    variance: tuple[float, float]


class Look(NamedTuple):
    """How clips of a label are drawn."""

    name: str
    marker: str
    colour: str


LOOKS: Mapping[str | None, Look] = {
    "normal": Look("test, normal", "o", NORMAL),
    "anomaly": Look("test, anomaly", "x", ANOMALY),
    None: Look("test, not known", "^", PURPLE),
}


def typical_model(models: Models, machine: str, scores: Mapping[Clip, float]) -> ModelKey:
    """The model whose scores of test clips rank them most like the headline system's, given by clip: no label is
    asked."""

    def agreement(key: ModelKey) -> float:
        own = models.kept(key).scores_of(key.variant, machine).test
        clips = [clip for clip in scores if clip in own]
        values = [own[clip] for clip in clips]
        if len(set(values)) < 2 or len(set(scores.values())) < 2:
            return -1.0
        ranks = [rankdata(values), rankdata([scores[clip] for clip in clips])]
        return float(np.nan_to_num(np.corrcoef(ranks)[0, 1], nan=-1.0))

    return max(models.keys, key=agreement)


def make_map(models: Models, key: ModelKey, machine: str, shown: Sequence[Clip]) -> Map:
    """The first two principal axes of the mean embeddings of a machine type's training clips, and where these and
    `shown` test clips lie on them."""
    kept = models.kept(key)
    bank = _thinned([i for i, clip in enumerate(models.bank_clips) if clip.machine == machine])
    wanted = set(shown)
    test = _thinned([i for i, clip in enumerate(models.test_clips) if clip in wanted])
    bank, test = _placeable(kept.bank, key.variant, bank), _placeable(kept.test, key.variant, test)
    vectors = clip_means(kept.bank, key.variant, bank).astype(np.float64)
    with np.errstate(invalid="ignore"):  # clips that are all the same have no variance to share
        axes = PCA(2, svd_solver="full").fit(vectors)
    of_test = axes.transform(clip_means(kept.test, key.variant, test).astype(np.float64)) if test else np.empty((0, 2))
    first, second = np.nan_to_num(axes.explained_variance_ratio_).tolist()
    return Map(
        [MapPlace(models.bank_clips[i], *at) for i, at in zip(bank, axes.transform(vectors).tolist(), strict=True)],
        [MapPlace(models.test_clips[i], *at) for i, at in zip(test, of_test.tolist(), strict=True)],
        (first, second),
    )


def _placeable(part: Embedded, variant: str, numbers: Sequence[int]) -> list[int]:
    """Return the clips whose mean embedding is finite: others have no place."""
    finite = np.isfinite(clip_means(part, variant, numbers)).all(axis=1) if numbers else []
    return [number for number, there in zip(numbers, finite, strict=True) if there]


def _thinned(numbers: Sequence[int]) -> list[int]:
    return list(numbers[:: max(-(-len(numbers) // _MOST), 1)])


def embedding_map(machine: str, model: str, shown: Map) -> Picture:
    """The figure: a panel for each section, in which the other sections' clips are faint."""
    sections = list(dict.fromkeys(place.clip.section for place in shown.test or shown.bank))
    columns = 2 if len(sections) == 4 else min(_COLUMNS, len(sections))
    rows = -(-len(sections) // columns)

    def draw(figure: Figure) -> None:
        """The panels, and the variance of each axis beside it."""
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, section in zip(grid.flat, sections, strict=False):
            _draw_section(axes, shown, section)
        for axes in grid.flat[len(sections) :]:
            axes.remove()
        first, second = (round(100 * share) for share in shown.variance)
        for axes in grid[:, 0]:
            axes.set_ylabel(f"second axis ({second} %)")
        for axes in grid.flat[max(len(sections) - columns, 0) : len(sections)]:
            axes.set_xlabel(f"first axis ({first} %)")
            axes.tick_params(labelbottom=True)
        legend_below(figure, 2)

    return picture(
        draw,
        1.3 + 4.0 / columns * rows,
        alt=f"Map of embeddings of {machine}: {len(shown.bank)} training and {len(shown.test)} test clips on two "
        f"principal axes, a panel for each of {len(sections)} sections",
        caption=f"Each point is a clip, placed by what the model {model} hears in it: alike sounds lie close together. "
        "Faults should lie away from the normal training clips. That model's scores are the most like the headline "
        "system's. The axes are principal axes, without a unit; in % stands the share of the training clips' variance "
        "that each shows.",
    )


def _draw_section(axes: Axes, shown: Map, section: str) -> None:
    others = [place for place in shown.bank if place.clip.section != section]
    own = [place for place in shown.bank if place.clip.section == section]
    _scatter(axes, others, Look("training, other sections", ".", FAINT), 16)
    _scatter(axes, own, Look("training, normal", ".", TRAINING), 22)
    for given, look in LOOKS.items():
        of_label = [p for p in shown.test if (p.clip.section, p.clip.label) == (section, given)]
        _scatter(axes, of_label, look, 20)
    axes.set_title(label(f"section {section}"))


def _scatter(axes: Axes, places: Sequence[MapPlace], look: Look, size: float) -> None:
    if not places:
        return
    x, y = [place.x for place in places], [place.y for place in places]
    dots = axes.scatter(x, y, s=size, marker=look.marker, color=look.colour, linewidths=1.0, label=look.name)
    if look.marker in "o^":
        dots.set_facecolor("none")
