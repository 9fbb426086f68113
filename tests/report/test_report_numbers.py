"""Numbers of a trained run's report, compared with independent computations."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_auc_score, roc_curve

from asdjax import features
from asdjax.evaluation.clip_table import ClipRow
from asdjax.inference.loaded_evaluation import Loaded
from asdjax.report import (
    cards,
    clip_selection,
    curves,
    embedding_map,
    explain,
    occlusion,
    report_inputs,
    report_tables,
    roc,
)
from asdjax.report.explain import Explanation
from asdjax.report.figures import ANOMALY
from asdjax.report.piece_scores import ModelKey, open_detectors
from asdjax.report.report_inputs import ReportInputs

pytestmark = pytest.mark.usefixtures("shallow")

SETTINGS = features.Spectrogram(16_000, 2046, 512, 32, "log", "mean")
KEY = ModelKey("phase2_full", "resnet50_512")


@pytest.fixture(scope="module")
def read(trained_once: Path) -> ReportInputs:
    return report_inputs.read(trained_once, None, {})


@pytest.fixture(scope="module")
def explained(read: ReportInputs, trained_once: Path) -> list[Explanation]:
    return explain.explain(trained_once, read.config, read.fleets[0], clip_selection.choose_clips(read.rows, 2))


class Stored:
    """Embeddings of the trained run as the evaluation stored them, with the clip of each piece."""

    def __init__(self, trained_once: Path) -> None:
        folder = trained_once / "evaluation" / "dev" / "embeddings" / "fan" / "phase2_full"
        self.test, self.bank = (np.load(folder / part / f"{KEY.variant}.npy") for part in ("test", "bank"))
        self.test_clip, self.bank_clip = (np.load(folder / part / "clip.npy") for part in ("test", "bank"))
        self.clips: dict[str, list[dict]] = json.loads((folder / "clips.json").read_text())

    def pieces_of(self, row: ClipRow) -> np.ndarray:
        (number,) = [i for i, entry in enumerate(self.clips["test"]) if Path(entry["path"]).name == row.clip.name]
        return self.test[self.test_clip == number].astype(np.float64)


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
    stored = Stored(trained_once)
    assert len(explained) == 6
    for one in explained:
        row = one.chosen.row
        same = [i for i, entry in enumerate(stored.clips["bank"]) if entry["section"] == row.clip.section]
        cosine = stored.pieces_of(row) @ stored.bank[np.isin(stored.bank_clip, same)].astype(np.float64).T
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
    stored = Stored(trained_once)
    for one in explained:
        own = stored.pieces_of(one.chosen.row).mean(axis=0)
        cosines = {}
        for i, entry in enumerate(stored.clips["bank"]):
            if entry["section"] == one.chosen.row.clip.section:
                other = stored.bank[stored.bank_clip == i].mean(axis=0)
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


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_louder_mel_band_is_replaced_in_its_band_alone(kinds: int):
    """The band's statistics become the normal clip's; every mel band is in one band."""
    normal = np.random.default_rng(0).normal(-40, 5, (1, kinds * 128)).astype(np.float32)
    own = normal.copy()
    mel_hz = librosa.mel_frequencies(130, fmin=0, fmax=8000)[1:-1]
    loud = int(np.argmin(abs(mel_hz - 3500)))
    own[0, loud::128] += 20
    replaced = occlusion.replace_mel_bands(own, normal, SETTINGS)
    edges = occlusion.make_band_edges_hz(SETTINGS)
    (right,) = [i for i in range(len(edges) - 1) if edges[i] <= mel_hz[loud] < edges[i + 1]]
    changed = [int((row != own[0]).sum()) for row in replaced]
    assert changed == [kinds if band == right else 0 for band in range(len(edges) - 1)]
    np.testing.assert_array_equal(replaced[right], normal[0])


def test_swapping_like_for_like_gives_what_the_evaluation_has_kept(read: ReportInputs, explained: list[Explanation]):
    spec, model = load_model(read)
    one = explained[0]
    models = open_detectors(read.fleets[0], read.config)
    vectors = models.read_embeddings(models.find_number(one.chosen.row))[KEY]
    crop = features.crop(one.samples, features.first_sample(0, SETTINGS), SETTINGS.piece_samples)
    again = occlusion.embed_occluded(spec, model, [occlusion.PiecePair(crop, crop)], 16)[KEY.variant][0]
    assert again == pytest.approx(np.repeat(vectors[:1], len(again), axis=0), abs=1e-5)


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
    models = open_detectors(read.fleets[0], read.config)
    checkpoint = read.fleets[0].checkpoints[KEY.line]
    same = checkpoint.kept.bank
    vectors = np.ones_like(same.pieces.vectors[KEY.variant]) / 128**0.5
    pieces = same.pieces._replace(vectors={KEY.variant: vectors})
    kept = checkpoint.kept._replace(bank=same._replace(pieces=pieces))
    models.fleet = read.fleets[0]._replace(checkpoints={KEY.line: replace(checkpoint, kept=kept)})
    shown = embedding_map.make_map(models, KEY, "fan", models.test_clips)
    assert shown.variance == (0, 0)
    assert embedding_map.make_map_picture("fan", KEY.variant, shown).alt.startswith("Map of embeddings of fan")


@pytest.mark.parametrize(
    ("numbers", "how", "expected"),
    [
        ((1,), "rank", "the score of the one model"),
        ((6,), "zscore", "the mean of the z-scores by training scores of the 6"),
        ((2, 6), "score", "the mean of the scores of the 2 to 6 models"),
        ((0, 6), "score", "the mean of the scores of the 6 models"),
    ],
)
def test_the_headline_says_what_is_averaged(numbers: tuple[int, ...], how: str, expected: str, read: ReportInputs):
    config = read.config.copy_and_resolve_references()
    config.evaluate.ensemble = how
    system = read.results["systems"]["all_mean"]
    members = {f"machine {i}": ["model"] * number for i, number in enumerate(numbers)}
    found = {**read.results, "systems": {"all_mean": {**system, "members": members}}}
    assert f"all_mean, {expected}" in report_tables.write_headline(replace(read, config=config, results=found))


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
