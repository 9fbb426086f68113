"""Listening: every score is that of the same window in one long clip, whatever the blocks; off, gaps and memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shallow_networks

import asdjax
from asdjax import features
from asdjax.data.sound_stream import Gap
from asdjax.errors import InputError
from asdjax.fleet import embed
from asdjax.inference.alarm_rule import AlarmRule
from asdjax.inference.clip_scores import pool_pieces
from asdjax.inference.detector import PIECES_PER_BATCH, SectionDetector
from asdjax.inference.listener import Listener, Moment, listen
from asdjax.inference.off_rule import OffRule
from asdjax.inference.sound_buffer import SoundBuffer

RATE_HZ, STEP = 16_000, 16_384  # a piece begins every 32 frames of 512 samples
WINDOW = 3
NEVER_OFF = OffRule.below(-1000.0)
RULE = AlarmRule(1, 1, 1)

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def detectors(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SectionDetector]:
    """Detectors of a fan by models alone, by a simple detector alone, and combined."""
    workdir = shutil.copytree(trained_once, tmp_path_factory.mktemp("listener") / "run")
    with shallow_networks():
        asdjax.evaluate(workdir)
        names = ("all_mean", "mean_std_log_mel", "combined")
        loaded = {name: asdjax.load(workdir, machine="fan", section="00", system=name)._detector for name in names}
    return {name: one._replace(clip_pieces=WINDOW, off=NEVER_OFF) for name, one in loaded.items()}


def noise(seconds: float, level: float = 1000.0, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wobble = 1 + 0.5 * np.sin(np.arange(round(seconds * RATE_HZ)) / 9000)
    return (level * wobble * generator.normal(size=len(wobble))).astype(np.int16)


def blocks(samples: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    at = turn = 0
    while at < len(samples):
        yield samples[at : at + sizes[turn % len(sizes)]]
        at, turn = at + sizes[turn % len(sizes)], turn + 1


def oracle(detector: SectionDetector, samples: np.ndarray) -> list[float]:
    """Score every window of a stream by the embeddings of the whole stream as one clip."""
    columns = []
    for part in detector.parts:
        embedded = embed.embed_clips(
            part.spec, part.model, [samples], stride_frames=32, batch_size=5, what="oracle", quiet=True
        )
        columns += [(member, member.scorer(embedded.vectors[member.variant])) for member in part.members]
    count = (len(samples) - 17_918 + 1_023) // STEP + 1
    scores = []
    for last in range(WINDOW - 1, count):
        pieces = slice(last - WINDOW + 1, last + 1)
        pooled = [
            member.normalise(np.array([pool_pieces(distances[pieces], detector.scoring)]))
            for member, distances in columns
        ]
        window = samples[pieces.start * STEP : last * STEP + 31 * 512]
        scores.append(float(detector._join(pooled, detector.simple(window))[0]))
    return scores


@pytest.mark.parametrize("system", ["all_mean", "mean_std_log_mel", "combined"])
@pytest.mark.parametrize("sizes", [[1600], [10**6], [1, 999, 50_000]])
def test_scores_are_those_of_the_windows_of_one_long_clip(
    detectors: dict[str, SectionDetector], system: str, sizes: list[int]
):
    detector, samples = detectors[system], noise(9.3)
    moments = list(listen(detector, RULE, None, blocks(samples, sizes)))
    expected = oracle(detector, samples)
    assert [moment.state for moment in moments[: WINDOW - 1]] == ["starting"] * (WINDOW - 1)
    assert len(moments) == len(expected) + WINDOW - 1
    got = [moment.score for moment in moments[WINDOW - 1 :]]
    np.testing.assert_allclose(np.array(got, float), expected, rtol=2e-4, atol=2e-4)
    assert [moment.seconds for moment in moments[:3]] == [1.024, 2.048, 3.072]


def test_one_clip_of_the_window_s_length_scores_nearly_as_by_score(detectors: dict[str, SectionDetector]):
    """Not equal: `score` sees zeros before and after a clip, a listener the sound of the stream."""
    detector, samples = detectors["all_mean"], noise(4.0)
    *_, last = (moment for moment in listen(detector, RULE, None, [samples]) if moment.score is not None)
    alone = detector.score_clip(samples[: 3 * STEP]).score
    assert last.score == pytest.approx(alone, rel=0.1)


def scored(moments: list[Moment]) -> list[str]:
    return [moment.state for moment in moments]


def test_a_machine_that_is_off_is_neither_normal_nor_an_alarm(detectors: dict[str, SectionDetector]):
    detector = detectors["combined"]._replace(off=OffRule.below(-60.0))
    sound = np.concatenate([noise(4.5), np.zeros(3 * STEP, np.int16), noise(5.0)])
    moments = list(listen(detector, RULE, None, blocks(sound, [4000])))
    off = [i for i, moment in enumerate(moments) if moment.state == "off"]
    assert off == list(range(off[0], off[0] + len(off)))
    assert 1 <= len(off) <= 3  # from the second silent piece on; of those at either end a part is silent
    assert moments[off[0] - 1].score is None
    assert all(moments[i].score is None for i in off)
    after = moments[off[-1] + 1 :]
    assert scored(after[: WINDOW - 1]) == ["starting"] * (WINDOW - 1)
    assert after[WINDOW - 1].score is not None


def test_the_level_below_which_it_is_off_may_be_given(detectors: dict[str, SectionDetector]):
    moments = list(listen(detectors["combined"], RULE, 0.0, [noise(4.0)]))
    assert scored(moments)[1:] == ["off"] * (len(moments) - 1)


def test_a_gap_begins_a_new_window_and_keeps_the_clock(detectors: dict[str, SectionDetector]):
    detector, first, second = detectors["all_mean"], noise(4.0), noise(5.0, seed=1)
    stream = [first, Gap("waiting", 2.0), Gap("gap", 6.0), second]
    moments = list(listen(detector, RULE, None, stream))
    alone = list(listen(detector, RULE, None, [second]))
    assert [moment.score for moment in moments[-len(alone) :]] == [moment.score for moment in alone]
    assert {moment.state for moment in moments[-len(alone) :][: WINDOW - 1]} <= {"starting", "alarm"}
    assert moments[-1].seconds == pytest.approx(4.0 + 6.0 + alone[-1].seconds, abs=1e-3)


def test_alarms_are_of_smoothed_scores_above_the_threshold(detectors: dict[str, SectionDetector]):
    detector = detectors["combined"]
    plain = [moment.score for moment in listen(detector, RULE, None, [noise(9.0)]) if moment.score is not None]
    limit = float(np.sort(plain)[-3])
    low = detector._replace(threshold=detector.threshold._replace(value=limit))
    moments = [moment for moment in listen(low, RULE, None, [noise(9.0)]) if moment.score is not None]
    assert scored(moments) == ["alarm" if score > limit else "normal" for score in plain]
    assert {"alarm", "normal"} == set(scored(moments))


def test_lost_sound_and_one_silent_piece_do_not_end_an_alarm(detectors: dict[str, SectionDetector]):
    detector = detectors["all_mean"]._replace(off=OffRule.below(-60.0))
    detector = detector._replace(threshold=detector.threshold._replace(value=-1e9))  # everything is an alarm
    dropout = np.concatenate([noise(5.0)[: 4 * STEP], np.zeros(STEP, np.int16), noise(4.0)])
    states = scored(list(listen(detector, RULE, None, [dropout, Gap("gap", 1.0), noise(4.0)])))
    assert states[: WINDOW - 1] == ["starting"] * (WINDOW - 1)
    assert set(states[WINDOW - 1 :]) == {"alarm"}


@pytest.mark.parametrize(
    "block",
    [
        noise(2.0) / 32768,
        noise(2.0).astype(np.uint16),
        noise(2.0)[:, None],
        noise(2.0).tolist(),
        noise(2.0).tobytes(),
        np.int16(3),
    ],
    ids=["float", "uint16", "column", "list", "bytes", "number"],
)
def test_other_blocks_are_refused(detectors: dict[str, SectionDetector], block: Any):
    with pytest.raises(InputError, match=r"expected blocks (of int16 samples|that are arrays)"):
        list(listen(detectors["all_mean"], RULE, None, [block]))


def test_a_stream_shorter_than_a_piece_is_refused(detectors: dict[str, SectionDetector]):
    with pytest.raises(InputError, match=r"expected 1.1 s of sound or more"):
        list(listen(detectors["all_mean"], RULE, None, [noise(1.0)]))


@pytest.mark.parametrize("stride", [16, 32, 64])
def test_every_piece_is_cut_as_of_one_long_clip(detectors: dict[str, SectionDetector], stride: int):
    spectrogram, samples = detectors["all_mean"].spectrogram, noise(20.0)
    buffer = SoundBuffer(spectrogram, stride, 1)
    count = 0
    for block in blocks(samples, [5000, 70_000]):
        for piece in buffer.add(block):
            start = features.first_sample(piece * stride, spectrogram)
            np.testing.assert_array_equal(buffer.crop(piece), features.crop(samples, start, spectrogram.piece_samples))
            buffer.drop(piece)
            count += 1
    assert count == (len(samples) - 17_918 + 1_023) // (stride * 512) + 1


def test_memory_stays_bounded(detectors: dict[str, SectionDetector]):
    """Of an hour, as far as the buffer is concerned: it keeps a window and what is not complete."""
    detector = detectors["combined"]
    buffer = SoundBuffer(detector.spectrogram, detector.stride_frames, WINDOW)
    for _ in range(3500):
        for piece in buffer.add(np.ones(STEP + 7, np.int16)):
            assert len(buffer.span(piece, WINDOW)) == min(piece + 1, WINDOW) * STEP - 512
            buffer.drop(piece)
    assert len(buffer._samples) <= (WINDOW + 2) * STEP
    listener = Listener(detector, RULE)
    list(listener.feed(noise(20.0)))
    assert len(listener._distances) == WINDOW


def test_warming_up_compiles_all_that_a_stream_needs(
    detectors: dict[str, SectionDetector], monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    whole = SectionDetector.measure_crops
    monkeypatch.setattr(
        SectionDetector, "measure_crops", lambda self, crops: sizes.append(len(crops)) or whole(self, crops)
    )
    list(listen(detectors["all_mean"], RULE, None, blocks(noise(12.0), [1000, 70_000])))
    assert sizes[:2] == [1, PIECES_PER_BATCH]
    assert set(sizes) == {1, PIECES_PER_BATCH}
