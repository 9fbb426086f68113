"""Numbers of a report, compared with independent computations."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.signal import stft
from sklearn.metrics import auc, roc_auc_score, roc_curve

from asdjax import features
from asdjax.data.clips import Domain
from asdjax.evaluation.clip_table import ClipRow
from asdjax.evaluation.metrics import ScoredClip
from asdjax.inference import anomalous_seconds
from asdjax.inference.loaded_evaluation import Loaded
from asdjax.report import (
    cards,
    clip_selection,
    curves,
    embedding_map,
    explain,
    histograms,
    occlusion,
    players,
    report_inputs,
    report_tables,
    roc,
    spectrogram_picture,
)
from asdjax.report.explain import Explanation
from asdjax.report.figures import ANOMALY
from asdjax.report.piece_scores import ModelKey, Models
from asdjax.report.report_inputs import ReportInputs

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = features.Spectrogram(16_000, 2046, 512, 32, "log", "mean")
KEY = ModelKey("phase2_full", "resnet50_512")


@pytest.fixture(scope="module")
def read(trained_once: Path) -> ReportInputs:
    return report_inputs.read(trained_once, None, {})


@pytest.fixture(scope="module")
def explained(read: ReportInputs, trained_once: Path) -> list[Explanation]:
    return explain.explain(trained_once, read.config, read.fleets[0], clip_selection.choose_clips(read.rows, 2))


def load_stored(trained_once: Path, part: str, name: str) -> Any:
    return np.load(trained_once / "evaluation" / "dev" / "embeddings" / "fan" / "phase2_full" / part / f"{name}.npy")


def clips_of(trained_once: Path) -> dict[str, list[dict]]:
    return json.loads(
        (trained_once / "evaluation" / "dev" / "embeddings" / "fan" / "phase2_full" / "clips.json").read_text()
    )


def test_the_curves_drawn_are_scikit_learns(read: ReportInputs, trained_once: Path):
    with (trained_once / "evaluation" / "dev" / "clips" / "all_mean.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    figure = Figure()
    roc.plot_roc(figure, roc.compute_curves(2021, [row.clip for row in read.rows if row.split == "test"]))
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    cells = json.loads((trained_once / "evaluation" / "dev" / "results.json").read_text())["systems"]["all_mean"]
    assert len(lines) == 1 + len(cells["cells"])
    for cell in cells["cells"]:
        cell_rows = [row for row in rows if (row["section"], row["domain"]) == (cell["section"], cell["domain"])]
        truth, scores = [row["label"] == "anomaly" for row in cell_rows], [float(row["score"]) for row in cell_rows]
        false, true, _ = roc_curve(truth, scores)
        drawn = np.asarray(lines[f"{cell['section']} {cell['domain']}"])
        assert drawn == pytest.approx(100 * np.stack([false, true], axis=1))
        assert auc(*drawn.T / 100) == pytest.approx(roc_auc_score(truth, scores)) == pytest.approx(cell["auc"])


def test_pieces_and_anomalous_seconds_are_those_computed_by_hand(
    read: ReportInputs, explained: list[Explanation], trained_once: Path
):
    vectors, clip = load_stored(trained_once, "test", KEY.variant), load_stored(trained_once, "test", "clip")
    bank, bank_clip = load_stored(trained_once, "bank", KEY.variant), load_stored(trained_once, "bank", "clip")
    listed = clips_of(trained_once)
    assert len(explained) == 6
    for one in explained:
        row = one.chosen.row
        (number,) = [i for i, entry in enumerate(listed["test"]) if Path(entry["path"]).name == row.clip.name]
        same = [i for i, entry in enumerate(listed["bank"]) if entry["section"] == row.clip.section]
        cosine = vectors[clip == number].astype(np.float64) @ bank[np.isin(bank_clip, same)].astype(np.float64).T
        scores = 1 - np.sort(cosine, axis=1)[:, -10:].mean(axis=1)
        assert one.pieces.score == pytest.approx(scores, abs=1e-6)
        assert one.pieces.score.mean() == pytest.approx(row.clip.score, abs=1e-6)
        seconds = [
            (32 * 512 * k / 16_000, min(32 * 512 * (k + 1) / 16_000, 2.0))
            for k in range(len(scores))
            if one.pieces.score[k] > row.threshold
        ]
        covered = [second for second in np.arange(0, 2, 0.01) if any(b <= second < e for b, e in seconds)]
        shown = [second for second in np.arange(0, 2, 0.01) if any(b <= second < e for b, e in one.anomalous)]
        assert covered == shown


def test_the_nearest_normal_clip_has_the_nearest_mean_embedding(explained: list[Explanation], trained_once: Path):
    vectors, clip = load_stored(trained_once, "test", KEY.variant), load_stored(trained_once, "test", "clip")
    bank, bank_clip = load_stored(trained_once, "bank", KEY.variant), load_stored(trained_once, "bank", "clip")
    listed = clips_of(trained_once)
    for one in explained:
        row = one.chosen.row
        (number,) = [i for i, entry in enumerate(listed["test"]) if Path(entry["path"]).name == row.clip.name]
        own = vectors[clip == number].mean(axis=0)
        cosines = {}
        for i, entry in enumerate(listed["bank"]):
            if entry["section"] == row.clip.section:
                other = bank[bank_clip == i].mean(axis=0)
                cosines[Path(entry["path"]).name] = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
        assert one.neighbour.name == max(cosines, key=cosines.__getitem__)
        assert one.cosine == pytest.approx(max(cosines.values()), abs=1e-5)


def load_model(read: ReportInputs) -> Loaded:
    return read.fleets[0].checkpoints[KEY.line].load()


def test_every_bin_is_in_one_band():
    masks, edges = occlusion.make_masks(SETTINGS), occlusion.make_band_edges_hz(SETTINGS)
    assert masks.sum(axis=0).tolist() == [1] * SETTINGS.bins
    assert edges[[0, -1]].tolist() == [0, 8000]
    hertz = np.fft.rfftfreq(2046, 1 / 16_000)
    for band, mask in enumerate(masks[:-1]):
        assert np.flatnonzero(mask).tolist() == [
            i for i, bin_hz in enumerate(hertz) if edges[band] <= bin_hz < edges[band + 1]
        ]


@pytest.mark.parametrize("hertz", [625.0, 3500.0, 6500.0])
def test_a_tone_that_the_normal_clip_lacks_is_found_in_its_band(
    hertz: float, read: ReportInputs, explained: list[Explanation]
):
    spec, model = load_model(read)
    normal = explained[0].neighbour_samples[: SETTINGS.piece_samples]
    time = np.arange(len(normal)) / 16_000
    own = (normal + 4000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
    pairs = [occlusion.PiecePair(own, normal), occlusion.PiecePair(normal, normal)]
    embedded = occlusion.embed_occluded(spec, model, pairs, 16)[KEY.variant].astype(np.float64)
    as_normal = embedded[1, 0]
    change = 1 - embedded[0] @ as_normal
    assert 1 - embedded[1] @ as_normal == pytest.approx(0, abs=1e-6)
    edges = occlusion.make_band_edges_hz(SETTINGS)
    (right,) = [i for i in range(len(edges) - 1) if edges[i] <= hertz < edges[i + 1]]
    assert np.argmin(change) == right
    others = np.delete(change, right)
    assert change[right] < 0.1 * others.min()


def test_swapping_like_for_like_gives_what_the_evaluation_has_kept(read: ReportInputs, explained: list[Explanation]):
    spec, model = load_model(read)
    one = explained[0]
    models = Models(read.fleets[0], read.config)
    vectors = models.read_embeddings(models.find_number(one.chosen.row))[KEY]
    crop = features.crop(one.samples, features.first_sample(0, SETTINGS), SETTINGS.piece_samples)
    again = occlusion.embed_occluded(spec, model, [occlusion.PiecePair(crop, crop)], 16)[KEY.variant][0]
    assert again == pytest.approx(np.repeat(vectors[:1], len(again), axis=0), abs=1e-5)


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


def test_curves_are_those_of_the_journal_and_thinned_by_means(trained_once: Path, read: ReportInputs):
    logged = [json.loads(line) for line in (trained_once / "fan" / "metrics.jsonl").read_text().splitlines()]
    expected = [row["loss"][KEY.variant] for row in logged if row["phase"] == "phase1" and "loss" in row]
    steps, values = curves.read_curve(read.fleets[0].metric_rows, "phase1", "loss", KEY.variant)
    assert values.tolist() == expected
    assert steps.tolist() == [1, 2, 3, 4, 5, 6]
    thin_steps, thin_values = curves.thin((steps, values), 3)
    assert thin_steps.tolist() == [1.5, 3.5, 5.5]
    assert thin_values == pytest.approx(np.mean(np.reshape(expected, (3, 2)), axis=1))
    odd = curves.thin((np.arange(7.0), np.arange(7.0)), 3)
    assert odd[1].tolist() == [1, 4, 6]


def test_training_clips_that_are_all_the_same_have_a_map(read: ReportInputs):
    models = Models(read.fleets[0], read.config)
    checkpoint = read.fleets[0].checkpoints[KEY.line]
    same = checkpoint.kept.bank
    vectors = np.ones_like(same.pieces.vectors[KEY.variant]) / 128**0.5
    pieces = same.pieces._replace(vectors={KEY.variant: vectors})
    kept = checkpoint.kept._replace(bank=same._replace(pieces=pieces))
    models.fleet = read.fleets[0]._replace(checkpoints={KEY.line: checkpoint._replace(kept=kept)})
    shown = embedding_map.make_map(models, KEY, "fan", models.test_clips)
    assert shown.variance == (0, 0)
    assert embedding_map.make_map_picture("fan", KEY.variant, shown).alt.startswith("Map of embeddings of fan")


@pytest.mark.parametrize(
    ("numbers", "how", "expected"),
    [
        ((1,), "rank", "the score of the one model"),
        ((6,), "zscore", "the mean of the z-scores by training scores of the 6"),
    ]
    + [((2, 6), "score", "the mean of the scores of the 2 to 6 models")],
)
def test_the_headline_says_what_is_averaged(numbers: tuple[int, ...], how: str, expected: str, read: ReportInputs):
    config = read.config.copy_and_resolve_references()
    config.evaluate.ensemble = how
    system = read.results["systems"]["all_mean"]
    members = {f"machine {i}": ["model"] * number for i, number in enumerate(numbers)}
    found = {**read.results, "systems": {"all_mean": {**system, "members": members}}}
    assert f"all_mean, {expected}" in report_tables.write_headline(replace(read, config=config, results=found))


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


def test_the_bands_that_are_named_are_those_that_are_coloured(explained: list[Explanation]):
    edges = np.array([0, 250, 500, 1000, 2000])
    for fall, named in (
        ([0.06, 0.0, 0.04, -0.5], "0–0.25 kHz"),
        ([0.5, 0.3, 0.0, 0.24], "0–0.5 kHz"),
        ([0.5, 0.0, 0.3, 0.3], "0–0.25 and 0.5–2 kHz"),
        ([0.04, 0.0, -0.1, 0.0], ""),
    ):
        one = replace(explained[0], bands=explain.Bands(edges, 1.0, 1.0 - np.array(fall)))
        axes = Figure().add_subplot()
        axes.set_ylim(np.log2(100), np.log2(2000))
        cards._plot_bands(axes, one)
        coloured = [bar.get_facecolor() == to_rgba(ANOMALY) for bar in axes.patches]
        if named:
            assert cards.format_bands(edges, np.flatnonzero(coloured).tolist()) == named
            assert f"matter most: {named}. " in cards._describe_bands(one)
        else:
            assert not any(coloured)
            assert "No single frequency band" in cards._describe_bands(one)
        ticks, (left, right) = axes.get_xticks(), axes.get_xlim()
        assert abs(ticks[1] - ticks[0]) > 0.3 * (right - left)
