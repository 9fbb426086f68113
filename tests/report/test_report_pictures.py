"""Pictures, players and the choice of clips, without a trained run."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.signal import stft

from asdjax import features
from asdjax.data.clips import Domain
from asdjax.evaluation.clip_table import ClipRow
from asdjax.inference import anomalous_seconds
from asdjax.inference.scored_clip import ScoredClip
from asdjax.report import clip_selection, histograms, players, spectrogram_picture

SETTINGS = features.Spectrogram(16_000, 2046, 512, 32, "log", "mean")


def test_levels_are_those_of_scipy_and_a_full_scale_sine_is_at_0_db():
    time = np.arange(32_000) / 16_000
    sine = (32_767 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    shown = spectrogram_picture.compute_levels(sine, SETTINGS)
    row = int(np.searchsorted(shown.edges_hz, 1000) - 1)
    assert shown.decibels.shape == (spectrogram_picture.ROWS, 63)
    assert abs(int(np.argmax(shown.decibels[:, 30])) - row) <= 1
    assert shown.decibels[:, 30].max() == pytest.approx(0, abs=2)
    noise = np.random.default_rng(0).integers(-9000, 9000, 20_480).astype(np.int16)
    levels = spectrogram_picture.compute_levels(noise, SETTINGS)
    hertz, _, values = stft(noise / 32768, 16_000, "hann", nperseg=2046, noverlap=2046 - 512)
    decibels = 20 * np.log10(2 * np.abs(values))  # scipy divides by the window's sum
    for low, high, row in zip(levels.edges_hz[:-1], levels.edges_hz[1:], levels.decibels, strict=True):
        inside = (hertz >= low + 4) & (hertz < high - 4)  # half a bin from the edges, where rounding has no effect
        if inside.sum() > 2:
            assert np.all(row >= decibels[inside, :41].max(axis=0) - 1e-6)
            around = (hertz > low - 8) & (hertz < high + 8)
            assert np.all(row <= decibels[around, :41].max(axis=0) + 1e-6)


def test_a_long_clip_is_a_small_picture():
    shown = spectrogram_picture.compute_levels(np.zeros(16_000 * 120, np.int16), SETTINGS)
    assert shown.decibels.shape[1] <= spectrogram_picture.COLUMNS
    assert shown.seconds == 120


def row(machine: str, label: str | None, score: float, split: str = "test") -> ClipRow:
    clip = ScoredClip(f"{machine}_{label}_{score}.wav", machine, "00", "source", label, score, score > 1)  # pyright: ignore
    return ClipRow(split, clip, 1.0)


@pytest.mark.parametrize(("domain", "outlined"), [("source", 1), (None, 3)])
def test_training_clips_are_outlined_beside_test_clips_of_any_domain(domain: Domain | None, outlined: int):
    """In evaluation sets from 2022 on, the domain is known for training clips only."""
    train = [row("fan", "normal", score, "train") for score in (0.1, 0.5, 0.9)]
    train[1:] = [one._replace(clip=replace(one.clip, domain="target")) for one in train[1:]]
    test = [row("fan", None, score) for score in (0.2, 0.6)]
    figure = Figure()
    histograms.plot_histograms(figure, [*train, *(one._replace(clip=replace(one.clip, domain=domain)) for one in test)])
    (axes,) = figure.axes
    assert "training (scaled)" in axes.get_legend_handles_labels()[1]
    outline = next(patch for patch in axes.patches if patch.get_label() == "training (scaled)")
    heights = outline.get_path().vertices[:, 1]
    assert heights.max() == pytest.approx(2 / outlined)


def test_clips_are_chosen_by_margin_across_machine_types_each_once():
    rows = [row("fan", "normal", 0.9, "train"), row("fan", "normal", 1.1, "train")]  # deviation 0.1
    rows += [row("pump", "normal", 0.0, "train"), row("pump", "normal", 2.0, "train")]  # deviation 1
    rows += [row("fan", "anomaly", 1.5), row("pump", "anomaly", 3.0), row("pump", "normal", 2.0)]
    rows += [row("fan", "normal", 1.2), row("fan", "anomaly", 0.5), row("pump", "normal", 0.0)]
    chosen = [
        (one.group, one.row.clip.machine, one.row.clip.score, one.margin)
        for one in clip_selection.choose_clips(rows, 2)
    ]
    assert chosen == [
        (clip_selection.MOST_ANOMALOUS, "fan", 1.5, pytest.approx(5)),
        (clip_selection.MOST_ANOMALOUS, "pump", 3.0, pytest.approx(2)),
        (clip_selection.HIGHEST_NORMAL, "fan", 1.2, pytest.approx(2)),
        (clip_selection.HIGHEST_NORMAL, "pump", 2.0, pytest.approx(1)),
        (clip_selection.LOWEST_ANOMALY, "fan", 0.5, pytest.approx(-5)),
    ]
    assert clip_selection.choose_clips([row("fan", None, 2.0), *rows[:2]], 3)[0].group == clip_selection.MOST_ANOMALOUS
    assert clip_selection.choose_clips(rows, 0) == []


def test_players_share_a_budget_and_play_the_strangest_part():
    assert players.share_budget(2, 16_000) == 16_000 * 20
    assert 0.99 * players.BUDGET_BYTES < players.share_budget(18, 16_000) * 18 * 8 / 3 <= players.BUDGET_BYTES
    assert players.share_budget(1000, 16_000) * 1000 * 8 / 3 <= players.BUDGET_BYTES
    assert players.choose_excerpt(100, 200, 50) == (0, 100)
    assert players.choose_excerpt(1000, 100, 500) == (450, 550)
    assert players.choose_excerpt(1000, 100, 10) == (0, 100)
    assert players.choose_excerpt(1000, 100, 990) == (900, 1000)


def test_spans_are_joined_where_they_touch_or_overlap():
    assert anomalous_seconds.join_spans([(0.0, 1.0), (1.0, 2.0), (1.5, 3.0), (4.0, 5.0)]) == [(0.0, 3.0), (4.0, 5.0)]
    assert anomalous_seconds.join_spans([]) == []
