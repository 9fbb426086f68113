"""An explained clip as it stands in the page: pictures, players, and sentences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdjax.features import Spectrogram
from asdjax.inference.anomalous_seconds import join_spans
from asdjax.report import players, spectrogram_picture
from asdjax.report.explain import Explanation
from asdjax.report.figures import ANOMALY, NORMAL, THRESHOLD, Picture, picture
from asdjax.report.players import Stretch
from asdjax.report.spectrogram_picture import Levels

_STANDS_OUT = 0.5
"""A band is named with the strongest where the score falls by at least this share of what it falls by there."""
_NOTHING = 0.05
"""Of the score: a fall below it explains nothing."""


class Player(NamedTuple):
    """A WAV file as a data: URI, and what it plays."""

    uri: str
    what: str


class Card(NamedTuple):
    """What the page shows of a clip; texts are as they came, for a template that escapes."""

    name: str
    place: str
    verdict: str
    wrong: bool
    facts: list[tuple[str, str]]
    when: str
    where: str
    clip: Picture
    neighbour: Picture
    players: tuple[Player, Player]


def card(one: Explanation, settings: Spectrogram, most_samples: int) -> Card:
    """A clip's card, with players of at most so many samples each."""
    clip = one.chosen.row.clip
    own, normal = (spectrogram_picture.levels(samples, settings) for samples in (one.samples, one.neighbour_samples))
    reach = spectrogram_picture.limits(own, normal)
    return Card(
        clip.name,
        " · ".join(filter(None, (clip.machine, f"section {clip.section}", clip.domain))),
        *_verdict(one),
        _facts(one),
        _when(one),
        _where(one),
        _clip_picture(one, own, reach),
        _neighbour_picture(one, normal, reach),
        _players(one, settings.sample_rate_hz, most_samples),
    )


def _verdict(one: Explanation) -> tuple[str, bool]:
    """What was decided against what was the case, and whether that was wrong."""
    clip = one.chosen.row.clip
    decided = "called anomalous" if clip.decision else "called normal"
    if clip.label is None:
        return decided, False
    wrong = (clip.label == "anomaly") != clip.decision
    kind = ("missed fault" if clip.label == "anomaly" else "false alarm") if wrong else "right"
    return f"{decided}, was {'an anomaly' if clip.label == 'anomaly' else 'normal'}: {kind}", wrong


def _facts(one: Explanation) -> list[tuple[str, str]]:
    row = one.chosen.row
    return [
        ("Score", f"{row.clip.score:.4g}"),
        ("Threshold", f"{row.threshold:.4g}"),
        ("From the threshold", _distance(one.chosen.margin)),
        ("Likeness to the normal clip", f"cosine {one.cosine:.3f} (1: the same)"),
    ]


def _distance(margin: float) -> str:
    return f"{'above' if margin > 0 else 'below'} by {abs(margin):.1f} × the spread of the training clips' scores"


def _when(one: Explanation) -> str:
    if not one.anomalous:
        return "No part of the clip is above the threshold by itself."
    if bool(np.all(one.pieces.score > one.chosen.row.threshold)):
        return "Every part of the clip is above the threshold."
    spans = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in one.anomalous)
    return f"Above the threshold: {spans}."


def _where(one: Explanation) -> str:
    """The strongest bands in a sentence."""
    fall = one.bands.fall
    best = int(np.argmax(fall))
    strong = _strong(one)
    if not strong.any():
        return "No single frequency band stands out: swapping any one for normal sound hardly lowers the score."
    names = band_names(one.bands.edges_hz, np.flatnonzero(strong).tolist())
    return (
        f"What matters most: {names}. With {band_names(one.bands.edges_hz, [best])} swapped for that of the nearest "
        f"normal clip, the score of the clip's strangest seconds falls from {one.bands.before:.4g} to "
        f"{one.bands.after[best]:.4g}."
    )


def _strong(one: Explanation) -> np.ndarray:
    """Which bands matter, (n,) bool."""
    fall = one.bands.fall
    return (fall > 0) & (fall >= max(_STANDS_OUT * fall.max(), _NOTHING * abs(one.bands.before)))


def band_names(edges_hz: np.ndarray, of_bands: Sequence[int]) -> str:
    """For people: 0.25–0.5, 1–2 and 3–5 kHz, neighbours as one."""
    spans = join_spans((edges_hz[band] / 1000, edges_hz[band + 1] / 1000) for band in of_bands)
    *others, last = [f"{low:g}–{high:g}" for low, high in spans]
    return f"{', '.join(others)} and {last} kHz" if others else f"{last} kHz"


def _clip_picture(one: Explanation, levels: Levels, reach: tuple[float, float]) -> Picture:
    def draw(figure: Figure) -> None:
        """The clip's spectrogram with its anomalous seconds, its bands beside and its score below."""
        grid = figure.subplots(
            2, 2, sharex="col", sharey="row", width_ratios=(3.4, 1), height_ratios=(3, 1), squeeze=False
        )
        spectrogram_picture.draw(grid[0, 0], levels, reach)
        grid[0, 0].set_title("This clip", pad=9)
        for begin, end in one.anomalous:  # above the picture, whose colours they must not be taken for
            grid[0, 0].plot(
                [begin, end],
                [1.015, 1.015],
                transform=grid[0, 0].get_xaxis_transform(),
                color=ANOMALY,
                lw=4,
                solid_capstyle="butt",
                clip_on=False,
            )
        _draw_bands(grid[0, 1], one)
        _draw_scores(grid[1, 0], one)
        grid[1, 1].remove()

    spans = ", ".join(f"{begin:.1f} to {end:.1f}" for begin, end in one.anomalous) or "none"
    return picture(
        draw,
        3.7,
        alt=f"Spectrogram of {one.chosen.row.clip.name}, its pieces' scores below, the contribution of each frequency "
        f"band beside it; anomalous seconds: {spans}",
        caption="",
    )


def _draw_bands(axes: Axes, one: Explanation) -> None:
    edges = np.maximum(one.bands.edges_hz, 2 ** axes.get_ylim()[0])  # the lowest band ends where the picture does
    bottom, top = spectrogram_picture.height_of(edges[:-1]), spectrogram_picture.height_of(edges[1:])
    fall = one.bands.fall
    colours = [ANOMALY if is_strong else NORMAL for is_strong in _strong(one)]
    axes.barh(bottom, fall, top - bottom, align="edge", color=colours, edgecolor="white", lw=0.8)
    axes.axvline(0, color=THRESHOLD, lw=0.8)
    axes.tick_params(labelleft=False, labelbottom=True)
    right = max(1.1 * fall.max(), 2 * _NOTHING * abs(one.bands.before), 1e-6)
    left = min(1.1 * fall.min(), 0)
    axes.set_xlim(left, right)
    tick = float(f"{0.8 * (right if right >= -left else left):.1g}")  # far from 0, so that both can be read
    axes.set_xticks([0, tick], ["0", f"{tick:g}"])
    axes.set(xlabel="fall of score", title="Bands")


def _draw_scores(axes: Axes, one: Explanation) -> None:
    threshold = one.chosen.row.threshold
    for begin, end, score in zip(*one.pieces, strict=True):
        colour = ANOMALY if score > threshold else NORMAL
        axes.fill_between([begin, end], 0, score, color=colour, alpha=0.25, lw=0)
        axes.plot([begin, end], [score, score], color=colour, lw=2, solid_capstyle="butt")
    axes.axhline(threshold, color=THRESHOLD, ls="--", lw=1.2)
    top = max(float(one.pieces.score.max()), threshold)
    axes.set(xlabel="time (s)", ylabel="score", ylim=(min(0, 1.1 * float(one.pieces.score.min())), 1.15 * top))


def _neighbour_picture(one: Explanation, levels: Levels, reach: tuple[float, float]) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = spectrogram_picture.draw(axes, levels, reach)
        axes.set(title="The nearest normal training clip", xlabel="time (s)")
        figure.colorbar(image, ax=axes, label="level (dB of full scale)", pad=0.02)

    return picture(
        draw,
        2.9,
        alt=f"Spectrogram of {one.neighbour.name}, the normal training clip nearest to {one.chosen.row.clip.name}",
        caption=one.neighbour.name,
    )


def _players(one: Explanation, sample_rate_hz: int, most: int) -> tuple[Player, Player]:
    worst = int(np.argmax(one.pieces.score))
    centre = round((one.pieces.begin[worst] + one.pieces.end[worst]) / 2 * sample_rate_hz)
    own = players.stretch(len(one.samples), most, centre)
    other = players.stretch(len(one.neighbour_samples), most, 0)
    return (
        _player(one.samples, own, sample_rate_hz, "this clip"),
        _player(one.neighbour_samples, other, sample_rate_hz, "the nearest normal clip"),
    )


def _player(samples: np.ndarray, part: Stretch, sample_rate_hz: int, what: str) -> Player:
    whole = part == (0, len(samples))
    seconds = "" if whole else f", {part.begin / sample_rate_hz:.1f}–{part.end / sample_rate_hz:.1f} s"
    return Player(players.wav_uri(samples[part.begin : part.end], sample_rate_hz), f"{what}{seconds}")


def cards(shown: Sequence[Explanation], settings: Spectrogram) -> list[Card]:
    """The cards of all explained clips, whose players share the page's room for sound."""
    most = players.longest(2 * len(shown), settings.sample_rate_hz)
    return [card(one, settings, most) for one in shown]
