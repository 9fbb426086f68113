"""Synthetic machines: reproducible bytes, names of the layout, distinguishable sections and audible faults."""

import json
import re
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from asdjax.data.synthetic.construction import SPECIMEN_SPREAD, Construction
from asdjax.data.synthetic.machines import MACHINES, break_machine, build_machine
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.errors import InputError
from asdjax.runtime import threads

TINY = Recipe(source_clips=2, target_clips=1, test_clips=1, sections=2, seconds=1.5)
SMALL = Recipe(source_clips=24, test_clips=16, seconds=3.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.wav")}


def mean_log_spectrum(path: Path) -> np.ndarray:
    """Return the mean over frames of the log magnitude, shape (f,)."""
    samples, _ = soundfile.read(path, dtype="float32")
    magnitude = np.abs(librosa.stft(samples, n_fft=2046, hop_length=512, pad_mode="constant"))
    return np.log(np.maximum(magnitude, 1e-6)).mean(axis=1)


def spectra(machine: Path, pattern: str) -> np.ndarray:
    """Return the spectra (n, f) of the clips whose path under the machine type matches, sorted by name."""
    return np.stack([mean_log_spectrum(path) for path in sorted(machine.glob(pattern))])


def mean_log_mel(path: Path) -> np.ndarray:
    """Return the mean over frames of the log power in 128 mel bands, shape (128,)."""
    samples, rate = soundfile.read(path, dtype="float32")
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1024, hop_length=512)
    return np.log(mel + 1e-12).mean(axis=1)


def crude_auc(machine: Path, section: int, domain: str) -> float:
    """Compute the AUC of the distance to the section's nearest training clip, by mean log-mel spectrum."""
    train = np.stack([mean_log_mel(path) for path in machine.glob(f"train/section_{section:02d}_*.wav")])
    clips = sorted(machine.glob(f"{domain}_test/section_{section:02d}_*.wav"))
    distances = [np.min(np.linalg.norm(train - mean_log_mel(clip), axis=1)) for clip in clips]
    return float(roc_auc_score(["anomaly" in clip.name for clip in clips], distances))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("everything") / "corpus"
    synthesize(out, TINY)
    return out


@pytest.fixture(scope="module")
def fans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fans")
    synthesize(out, SMALL, machines=["fan"])
    return out / "fan"


def test_same_bytes_whatever_the_workers_and_the_other_machines(
    everything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "count_cores", lambda: 1)
    synthesize(tmp_path, TINY, machines=["valve", "ToyCar"])
    again = contents(tmp_path)
    assert again == {n: b for n, b in contents(everything).items() if n.startswith(("valve/", "ToyCar/"))}


def test_more_clips_leave_the_first_as_they_are(everything: Path, tmp_path: Path):
    more = Recipe(source_clips=3, target_clips=2, test_clips=2, sections=3, seconds=1.5)
    synthesize(tmp_path, more, machines=["slider"])
    first = {name: data for name, data in contents(everything).items() if name.startswith("slider/")}
    assert first.items() < contents(tmp_path).items()


def test_another_seed_gives_other_recordings(everything: Path, tmp_path: Path):
    other = Recipe(source_clips=2, target_clips=1, test_clips=1, sections=2, seconds=1.5, seed=1)
    synthesize(tmp_path, other, machines=["pump"])
    assert not set(contents(tmp_path).values()) & set(contents(everything).values())


def test_every_clip_is_another(everything: Path):
    assert max(Counter(contents(everything).values()).values()) == 1


def test_names_and_counts_follow_the_2021_layout(tmp_path: Path):
    recipe = Recipe(source_clips=3, target_clips=2, test_clips=4, sections=2, seconds=1.2)
    made = synthesize(tmp_path, recipe, machines=["gearbox", "gearbox"])
    names = list(contents(tmp_path))
    assert made == len(names) == 2 * (3 + 2 + 2 * 2 * 4)
    train = r"gearbox/train/section_0[01]_(source|target)_train_normal_\d{4}_rpm_\d+_load_\d+\.wav"
    test = r"gearbox/(source|target)_test/section_0[01]_\1_test_(normal|anomaly)_\d{4}\.wav"
    assert sum(bool(re.fullmatch(train, name)) for name in names) == 2 * (3 + 2)
    assert sum(bool(re.fullmatch(test, name)) for name in names) == 2 * 2 * 2 * 4
    assert "gearbox/target_test/section_01_target_test_anomaly_0003.wav" in names


def test_clips_are_16_bit_mono_at_16_khz_neither_silent_nor_clipped(everything: Path):
    assert {path.parent.parent.name for path in everything.rglob("*.wav")} == set(MACHINES)
    for path in everything.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 24_000)
        samples = soundfile.read(path, dtype="float32")[0]
        assert np.max(np.abs(samples)) < 0.99
        halves = np.sqrt(np.mean(np.square(samples.reshape(2, -1)), axis=1))
        assert np.all(halves > 1e-3)


@pytest.mark.slow
def test_sections_can_be_distinguished(fans: Path):
    """Classify held-out clips by the nearest class mean, without their level, which standardised pieces lack, too."""
    shape = {s: spectra(fans, f"train/section_{s:02d}_source_*.wav").mean(axis=0) for s in range(3)}
    means = np.stack([mean - mean.mean() for mean in shape.values()])
    right = []
    for domain in ("source", "target"):
        for section in range(3):
            clips = spectra(fans, f"{domain}_test/section_{section:02d}_*_normal_*.wav")
            clips -= clips.mean(axis=1, keepdims=True)
            nearest = np.argmin(np.linalg.norm(clips[:, None] - means[None], axis=2), axis=1)
            right.append(np.mean(nearest == section))
    assert np.mean(right) > 0.6


def test_faults_change_the_spectrum_but_not_plainly(fans: Path):
    cells = [crude_auc(fans, section, domain) for section in range(3) for domain in ("source", "target")]
    assert 0.5 < np.mean(cells) < 0.8


def test_the_level_does_not_reveal_a_fault(fans: Path):
    aucs = []
    for section in range(3):
        for domain in ("source", "target"):
            clips = sorted(fans.glob(f"{domain}_test/section_{section:02d}_*.wav"))
            levels = [np.std(soundfile.read(clip)[0]) for clip in clips]
            aucs.append(roc_auc_score(["anomaly" in clip.name for clip in clips], levels))
    assert 0.4 < np.mean(aucs) < 0.6


@pytest.mark.parametrize("name", MACHINES)
def test_sections_share_a_housing_and_differ_in_every_trait_that_a_fault_moves(name: str):
    sections = [build_machine(name, number) for number in range(6)]
    assert len({machine.housing_hz for machine in sections}) == 1
    assert len({machine.parts for machine in sections}) == len(sections)
    nominal = sections[0]
    for fault in nominal.faults:
        assert fault.moves
        for trait in fault.moves:
            moved = MACHINES[name](Construction(name, 0, {trait: 0.3}))
            assert moved.parts != nominal.parts
        for severity in (0.0, 1.0):
            assert break_machine(name, 0, 5, fault, severity).parts != build_machine(name, 0, 5).parts


@pytest.mark.parametrize("step", [-0.45, -0.2, 0.2, 0.45])
def test_a_fault_moves_a_trait_by_its_share_of_the_range_and_never_out_of_it(step: float):
    for section in range(20):
        place = Construction("fan", section).linear("a trait", 0, 1)
        moved = Construction("fan", section, {"a trait": step}).linear("a trait", 0, 1)
        assert abs(moved - place) == pytest.approx(abs(step))
        assert 0 <= moved < 1


def test_specimens_of_a_section_deviate_by_their_spread_and_keep_their_deviation_in_a_fault():
    places = [Construction("fan", 1, specimen=specimen).linear("a trait", 0, 1) for specimen in range(2000)]
    assert np.mean(places) == pytest.approx(Construction("fan", 1).linear("a trait", 0, 1), abs=0.01)
    assert np.std(places) == pytest.approx(SPECIMEN_SPREAD, rel=0.1)
    whole, broken = (Construction("fan", 1, moved, 7).linear("a trait", 0, 1) for moved in ({}, {"a trait": 0.1}))
    assert abs(broken - whole) == pytest.approx(0.1)


def test_a_run_over_a_killed_one_completes_it(everything: Path, tmp_path: Path):
    synthesize(tmp_path, TINY, machines=["fan"])
    whole = contents(tmp_path)
    clips = sorted(tmp_path.rglob("*.wav"))
    clips[0].unlink()
    clips[1].rename(clips[1].with_suffix(".part"))
    synthesize(tmp_path, TINY, machines=["fan"])
    assert contents(tmp_path) == whole
    assert not list(tmp_path.rglob("*.part"))


def test_a_write_that_fails_leaves_no_clip_under_its_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def torn(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"RIFF")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", torn)
    with pytest.raises(InputError, match=r"No space left on device; free some space"):
        synthesize(tmp_path / "new", TINY, machines=["fan"])
    assert not list(tmp_path.rglob("*.wav"))


def test_machines_can_be_added_to_a_folder_of_the_same_recipe_only(tmp_path: Path):
    synthesize(tmp_path, TINY, machines=["fan"])
    synthesize(tmp_path, TINY, machines=["pump"])
    before = contents(tmp_path)
    other = Recipe(source_clips=1, test_clips=1, seconds=1.5)
    with pytest.raises(InputError, match="another recipe"):
        synthesize(tmp_path, other, machines=["fan"])
    assert contents(tmp_path) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        synthesize(tmp_path, TINY, machines=["fan"])
    with pytest.raises(InputError, match="choose another folder"):
        synthesize(tmp_path / "letter.txt", TINY, machines=["fan"])
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sections": 0}, "sections: expected 1 to 100, got 0"),
        ({"sections": 101}, "sections: expected 1 to 100, got 101"),
        ({"seconds": 0.99}, "0.992 s"),
        ({"seconds": float("nan")}, "seconds"),
        ({"source_clips": 0}, "source_clips: expected at least 1, got 0"),
        ({"target_clips": -1}, "target_clips: expected at least 0, got -1"),
        ({"test_clips": -1}, "test_clips: expected at least 0, got -1"),
    ],
)
def test_an_impossible_recipe_is_refused(tmp_path: Path, changes: dict[str, float], message: str):
    recipe = Recipe(**{"source_clips": 1, "test_clips": 1, **changes})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=re.escape(message)):
        synthesize(tmp_path / "out", recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("machines", [["fan", "toycar"], []])
def test_unknown_machine_types_are_refused_with_the_ones_there_are(tmp_path: Path, machines: list[str]):
    with pytest.raises(InputError, match="expected some of ToyCar, ToyTrain, fan") as error:
        synthesize(tmp_path / "out", TINY, machines=machines)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_shortest_clip_holds_exactly_one_piece(tmp_path: Path):
    recipe = Recipe(source_clips=1, target_clips=0, test_clips=0, sections=1, seconds=0.992)
    assert synthesize(tmp_path, recipe) == len(MACHINES)
    assert {soundfile.info(path).frames for path in tmp_path.rglob("*.wav")} == {31 * 512}
    assert json.loads((tmp_path / "synthesis.json").read_text())["seconds"] == recipe.seconds
