"""Cards of the page, one for each explained clip: sentences, pictures and players."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdjax.features import Spectrogram
from asdjax.inference.anomalous_seconds import join_spans
from asdjax.report import players, spectrogram_picture
from asdjax.report.explain import Explanation
from asdjax.report.figures import ANOMALY, NORMAL, THRESHOLD, Picture, make_picture
from asdjax.report.players import Player
from asdjax.report.spectrogram_picture import Levels

_LEAST_OF_STRONGEST = 0.5  # a band matters if its contribution is at least this share of the strongest band's
_LEAST_OF_SCORE = 0.05  # and at least this share of the score


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """Texts, pictures and players of one clip. The page's template escapes the texts."""

    name: str
    place: str
    decision_text: str
    wrong: bool
    facts: list[tuple[str, str]]
    when: str
    where: str
    clip: Picture
    neighbour: Picture
    players: tuple[Player, Player]


def make_cards(explanations: Sequence[Explanation], spectrogram: Spectrogram, most: int) -> list[Card]:
    """Return the cards of all explained clips, with two players of at most `most` samples each."""
    return [_make_card(explanation, spectrogram, most) for explanation in explanations]


def _make_card(explanation: Explanation, spectrogram: Spectrogram, most_samples: int) -> Card:
    clip = explanation.chosen.row.clip
    own, normal = (
        spectrogram_picture.compute_levels(samples, spectrogram)
        for samples in (explanation.samples, explanation.neighbour_samples)
    )
    limits = spectrogram_picture.choose_limits(own, normal)
    decision_text, wrong = _describe_decision(explanation)
    return Card(
        name=clip.name,
        place=" · ".join(filter(None, (clip.machine, f"section {clip.section}", clip.domain))),
        decision_text=decision_text,
        wrong=wrong,
        facts=_list_facts(explanation),
        when=_describe_seconds(explanation),
        where=_describe_bands(explanation),
        clip=_make_clip_picture(explanation, own, limits),
        neighbour=_make_neighbour_picture(explanation, normal, limits),
        players=_make_players(explanation, spectrogram.sample_rate_hz, most_samples),
    )


def _describe_decision(explanation: Explanation) -> tuple[str, bool]:
    """Return the decision next to the label, and True if the decision was wrong."""
    clip = explanation.chosen.row.clip
    decision = "Called anomalous" if clip.decision else "Called normal"
    if clip.label is None:
        return decision, False
    wrong = (clip.label == "anomaly") != clip.decision
    kind = ("missed fault" if clip.label == "anomaly" else "false alarm") if wrong else "correct"
    return f"{decision}, was {'anomalous' if clip.label == 'anomaly' else 'normal'}: {kind}", wrong


def _list_facts(explanation: Explanation) -> list[tuple[str, str]]:
    chosen = explanation.chosen
    side = "above" if chosen.margin > 0 else "below"
    return [
        ("Score", f"{chosen.row.clip.score:.4g}"),
        ("Threshold", f"{chosen.row.threshold:.4g}"),
        (
            "Distance",
            f"{abs(chosen.margin):.1f} standard deviations (of the training clips' scores) {side} the threshold",
        ),
        ("Similarity to the normal clip", f"cosine {explanation.cosine:.3f} (1: identical)"),
    ]


def _describe_seconds(explanation: Explanation) -> str:
    if len(explanation.pieces) == 1:
        return f"The clip as a whole is {'above' if explanation.anomalous else 'not above'} the threshold."
    if not explanation.anomalous:
        return "No piece of the clip is above the threshold by itself."
    if bool(np.all(explanation.pieces.score > explanation.chosen.row.threshold)):
        return "Every piece of the clip is above the threshold."
    spans = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in explanation.anomalous)
    return f"Above the threshold: {spans}."


def _describe_bands(explanation: Explanation) -> str:
    bands = explanation.bands
    strong = _find_strong(explanation)
    if not strong.any():
        return "No single frequency band matters: replacing any one by normal sound hardly lowers the score."
    best = int(np.argmax(bands.decrease))
    return (
        f"The frequencies that matter most: {format_bands(bands.edges_hz, np.flatnonzero(strong).tolist())}. "
        f"With {format_bands(bands.edges_hz, [best])} replaced by the sound of the nearest normal clip, the score of "
        f"the strangest seconds falls from {bands.before:.4g} to {bands.after[best]:.4g}."
    )


def _find_strong(explanation: Explanation) -> np.ndarray:
    """Return the bands that matter, (n,) bool."""
    decrease = explanation.bands.decrease
    least = max(_LEAST_OF_STRONGEST * decrease.max(), _LEAST_OF_SCORE * abs(explanation.bands.before))
    return (decrease > 0) & (decrease >= least)


def format_bands(edges_hz: np.ndarray, bands: Sequence[int]) -> str:
    """Return bands as text, such as `0.25–0.5, 1–2 and 3–5 kHz`, with adjacent bands joined."""
    spans = join_spans((edges_hz[band] / 1000, edges_hz[band + 1] / 1000) for band in bands)
    *others, last = [f"{low:g}–{high:g}" for low, high in spans]
    return f"{', '.join(others)} and {last} kHz" if others else f"{last} kHz"


def _make_clip_picture(explanation: Explanation, levels: Levels, limits: tuple[float, float]) -> Picture:
    def plot(figure: Figure) -> None:
        """Plot the spectrogram with its anomalous seconds, its bands on the right and its scores below."""
        grid = figure.subplots(
            2, 2, sharex="col", sharey="row", width_ratios=(3.4, 1), height_ratios=(3, 1), squeeze=False
        )
        spectrogram_picture.plot_levels(grid[0, 0], levels, limits)
        grid[0, 0].set_title("This clip", pad=9)
        for begin, end in explanation.anomalous:  # above the picture, so that they are not taken for sound
            grid[0, 0].plot(
                [begin, end],
                [1.015, 1.015],
                transform=grid[0, 0].get_xaxis_transform(),
                color=ANOMALY,
                lw=4,
                solid_capstyle="butt",
                clip_on=False,
            )
        _plot_bands(grid[0, 1], explanation)
        _plot_scores(grid[1, 0], explanation)
        grid[1, 1].remove()

    spans = ", ".join(f"{begin:.1f} to {end:.1f}" for begin, end in explanation.anomalous) or "none"
    return make_picture(
        plot,
        3.7,
        alt=f"Spectrogram of {explanation.chosen.row.clip.name}, its pieces' scores below, the contribution of each "
        f"frequency band on the right; anomalous seconds: {spans}",
        caption="",
    )


def _plot_bands(axes: Axes, explanation: Explanation) -> None:
    bands = explanation.bands
    edges = np.maximum(bands.edges_hz, 2 ** axes.get_ylim()[0])  # the lowest band ends where the picture does
    bottom, top = spectrogram_picture.to_height(edges[:-1]), spectrogram_picture.to_height(edges[1:])
    colours = [ANOMALY if is_strong else NORMAL for is_strong in _find_strong(explanation)]
    axes.barh(bottom, bands.decrease, top - bottom, align="edge", color=colours, edgecolor="white", lw=0.8)
    axes.axvline(0, color=THRESHOLD, lw=0.8)
    axes.tick_params(labelleft=False, labelbottom=True)
    right = max(1.1 * bands.decrease.max(), 2 * _LEAST_OF_SCORE * abs(bands.before), 1e-6)
    left = min(1.1 * bands.decrease.min(), 0)
    axes.set_xlim(left, right)
    tick = float(f"{0.8 * (right if right >= -left else left):.1g}")  # far enough from 0 that both are readable
    axes.set_xticks([0, tick], ["0", f"{tick:g}"])
    axes.set(xlabel="fall of score", title="Bands")


def _plot_scores(axes: Axes, explanation: Explanation) -> None:
    threshold = explanation.chosen.row.threshold
    pieces = explanation.pieces
    for begin, end, score in zip(pieces.begin, pieces.end, pieces.score, strict=True):
        colour = ANOMALY if score > threshold else NORMAL
        axes.fill_between([begin, end], 0, score, color=colour, alpha=0.25, lw=0)
        axes.plot([begin, end], [score, score], color=colour, lw=2, solid_capstyle="butt")
    axes.axhline(threshold, color=THRESHOLD, ls="--", lw=1.2)
    top = max(float(pieces.score.max()), threshold)
    axes.set(xlabel="time (s)", ylabel="score", ylim=(min(0, 1.1 * float(pieces.score.min())), 1.15 * top))


def _make_neighbour_picture(explanation: Explanation, levels: Levels, limits: tuple[float, float]) -> Picture:
    def plot(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = spectrogram_picture.plot_levels(axes, levels, limits)
        axes.set(title="The nearest normal training clip", xlabel="time (s)")
        figure.colorbar(image, ax=axes, label="level (dB of full scale)", pad=0.02)

    name = explanation.neighbour.name
    return make_picture(
        plot,
        2.9,
        alt=f"Spectrogram of {name}, the normal training clip nearest to {explanation.chosen.row.clip.name}",
        caption=name,
    )


def _make_players(explanation: Explanation, sample_rate_hz: int, most: int) -> tuple[Player, Player]:
    """Return players of the strangest seconds of the clip and of the beginning of its neighbour."""
    pieces, own, normal = explanation.pieces, explanation.samples, explanation.neighbour_samples
    strangest = int(np.argmax(pieces.score))
    centre = round((pieces.begin[strangest] + pieces.end[strangest]) / 2 * sample_rate_hz)
    return (
        players.make_player(own, players.choose_excerpt(len(own), most, centre), sample_rate_hz, "this clip"),
        players.make_player(
            normal, players.choose_excerpt(len(normal), most, 0), sample_rate_hz, "the nearest normal clip"
        ),
    )
