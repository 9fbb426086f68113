"""Bad recordings: `check` lists them, `train` refuses them in one line, and nothing on disk changes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import overrides, train_tiny

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.access import open_corpus, open_stores

RATE_HZ = 16_000
SAMPLES = 32_000


def noise(samples: int = SAMPLES, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(99).uniform(-0.5, 0.5, (samples, channels))


def recorded(values: np.ndarray, rate_hz: int = RATE_HZ, **how: str) -> Callable[[Path], object]:
    return lambda clip: soundfile.write(clip, values, rate_hz, **how)


def linked(clip: Path) -> None:
    clip.unlink()
    clip.symlink_to(clip.with_name("nowhere"))


def cut_off_flac(clip: Path) -> None:
    soundfile.write(clip, noise(), RATE_HZ, format="FLAC")
    clip.write_bytes(clip.read_bytes()[:-10])


def renamed(clip: Path) -> None:
    clip.rename(clip.with_name("monday morning.wav"))


def copied_into_the_other_section(clip: Path) -> None:
    shutil.copy(clip, min(clip.parent.glob("section_01_source*")))


def copied_into_test(clip: Path) -> None:
    shutil.copy(clip, min((clip.parent.parent / "target_test").iterdir()))


REFUSED = {
    "cut off": (lambda clip: clip.write_bytes(clip.read_bytes()[:-10]), "truncated: its header says 64000 bytes"),
    "header only": (lambda clip: clip.write_bytes(clip.read_bytes()[:44]), "truncated: its header says 64000 bytes"),
    "empty file": (lambda clip: clip.write_bytes(b""), "CAF, W64), got an empty file"),
    "no samples": (recorded(noise(0)), "holds a header and no samples"),
    "float": (recorded(noise(), subtype="FLOAT"), "encoding float32; expected mono 16-bit PCM"),
    "8 bits": (recorded(noise(), subtype="PCM_U8"), "got 8-bit PCM; make 16-bit PCM of it: ffmpeg"),
    "24 bits": (recorded(noise(), subtype="PCM_24"), "encoding pcm24; expected mono 16-bit PCM"),
    "mu-law": (recorded(noise(), subtype="ULAW"), "got 8-bit mu-law"),
    "another rate": (recorded(noise(3 * SAMPLES), 44_100), "44100 Hz; expected mono 16-bit PCM at 16000 Hz"),
    "stereo": (recorded(noise(channels=2)), "2 channels; expected mono 16-bit PCM"),
    "FLAC cut off": (cut_off_flac, "truncated or damaged: cannot be decoded"),
    "Ogg": (recorded(noise(), format="OGG"), "Ogg Vorbis, lossy; expected mono 16-bit PCM"),
    "a pointer": (lambda clip: clip.write_text("/annex/objects/SHA256E-s4--0.wav\n"), "git-annex pointer"),
    "HTML": (lambda clip: clip.write_text("<!doctype html>"), "got HTML or XML; download it again"),
    "shorter than a piece": (recorded(noise(15_871)), "shorter than a piece: expected 0.99 s or more"),
    "a name that says nothing": (renamed, "expected a dcase2021 name"),
    "unreadable": (linked, "got a broken link"),
    "a clip of another section too": (
        copied_into_the_other_section,
        "same contents among the training clips of two sections",
    ),
    "a test clip too": (copied_into_test, "same contents among training and test clips"),
}
CONVERTED = {
    "NaN": (recorded(np.append(noise(), np.nan), subtype="FLOAT"), "NaN or infinite"),
    "infinite": (recorded(np.append(noise(), np.inf), subtype="FLOAT"), "NaN or infinite"),
    "a channel too few": (recorded(noise(channels=2)), "expected a channel 3, has 2"),
}


@pytest.fixture
def spoilt(corpus: Path, tmp_path: Path) -> Path:
    """Return a copy of the corpus that a test may damage."""
    shutil.copytree(corpus, tmp_path / "corpus")
    return tmp_path / "corpus"


def first_clip(root: Path) -> Path:
    return min((root / "fan" / "train").iterdir())


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(root: Path, message: str, capsys: pytest.CaptureFixture[str], **changes: str) -> None:
    before = tree(root.parent)
    assert train_tiny(root, root.parent / "run", **changes) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("asdjax train: ")
    assert message in line
    assert main(["check", "--config", "dcase2021", *overrides(root, **changes)]) == 2
    assert message.split("; ")[0] in " ".join(capsys.readouterr().out.split())
    assert tree(root.parent) == before


@pytest.mark.parametrize(("spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_file_is_refused(spoilt: Path, spoil: Callable, message: str, capsys: pytest.CaptureFixture[str]):
    spoil(first_clip(spoilt))
    assert_refused(spoilt, message, capsys)


@pytest.mark.parametrize(("spoil", "message"), CONVERTED.values(), ids=CONVERTED)
def test_what_no_conversion_mends_is_refused(
    spoilt: Path, spoil: Callable, message: str, capsys: pytest.CaptureFixture[str]
):
    spoil(first_clip(spoilt))
    assert_refused(spoilt, message, capsys, data__on_mismatch="convert", data__channel="3")


def test_the_same_name_twice_is_refused(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    other = spoilt.parent / "other"
    shutil.copytree(spoilt, other)
    before = tree(spoilt.parent)
    assert train_tiny(spoilt, spoilt.parent / "run", data__root=f"{spoilt},{other}") == 2
    assert "the same machine type, section and name as" in capsys.readouterr().err
    assert tree(spoilt.parent) == before


def test_a_machine_type_that_orbax_would_take_for_a_pattern_is_refused(
    spoilt: Path, capsys: pytest.CaptureFixture[str]
):
    (spoilt / "fan").rename(spoilt / "fan[1]")
    before = tree(spoilt.parent)
    assert train_tiny(spoilt, spoilt.parent / "run") == 2
    assert "a machine type cannot be called fan[1]: its checkpoints" in capsys.readouterr().err
    assert main(["check", "--config", "dcase2021", *overrides(spoilt)]) == 2
    assert tree(spoilt.parent) == before


def test_a_work_directory_among_the_recordings_is_refused(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    before = tree(spoilt.parent)
    for workdir in (spoilt, spoilt / "fan" / ".."):
        assert train_tiny(spoilt, workdir) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"workdir {workdir}: expected a folder without recordings, got {workdir / 'fan'} with some" in line
    assert train_tiny(spoilt, spoilt.parent / "run", data__store=str(spoilt)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"config.data.store: {spoilt}: expected a folder without recordings, got {spoilt / 'fan'} with some" in line
    assert tree(spoilt.parent) == before


def test_a_store_of_another_folder_is_refused_and_unchanged(spoilt: Path, capsys: pytest.CaptureFixture[str]):
    """The store of `fan` must be rebuilt, since a clip changed. The store of `pump` is of another folder."""
    shutil.copytree(spoilt / "fan", spoilt / "pump")
    for clip in (spoilt / "pump").rglob("*.wav"):
        values, rate_hz = soundfile.read(clip)
        soundfile.write(clip, 0.5 * values, rate_hz)
    elsewhere, shared = spoilt.parent / "elsewhere", spoilt.parent / "shared"
    shutil.copytree(spoilt, elsewhere)
    for root, machine in ((spoilt, "fan"), (elsewhere, "pump")):
        config = loading.load("dcase2021", {"data.root": str(root), "data.store": str(shared)})
        open_stores(config, spoilt.parent / "run", open_corpus(config), [machine])
    soundfile.write(first_clip(spoilt), noise(), RATE_HZ)
    before = tree(spoilt.parent)
    assert train_tiny(spoilt, spoilt.parent / "run", "--only", "pump", data__store=str(shared)) == 2
    message = capsys.readouterr().err
    assert f"{shared / 'pump'}: holds other clips" in message
    assert "correct config.data.root, give another config.data.store" in message
    assert tree(spoilt.parent) == before


def without(root: Path, pattern: str) -> None:
    """Copy the first section as a third, so that two sections remain, and delete training clips."""
    for clip in (root / "fan").rglob("section_00_*"):
        shutil.copy(clip, clip.with_name(clip.name.replace("section_00", "section_02")))
        values, rate_hz = soundfile.read(clip)
        soundfile.write(clip, 0.5 * values, rate_hz)
    for clip in (root / "fan" / "train").glob(pattern):
        clip.unlink()


WARNED = {
    "silent": (lambda root: soundfile.write(first_clip(root), 0 * noise(), RATE_HZ), "warning: silent"),
    "one class in a cell": (
        lambda root: [clip.unlink() for clip in (root / "fan" / "target_test").glob("section_01_*anomaly*")],
        "only normal clips: AUC and pAUC are undefined",
    ),
    "no target clips": (
        lambda root: [clip.unlink() for clip in (root / "fan" / "train").glob("section_01_target*")],
        "no target training clips",
    ),
    "a section without training clips": (
        lambda root: without(root, "section_01_*"),
        "no training clips: its test clips cannot be scored",
    ),
    "a section of target clips": (
        lambda root: without(root, "section_01_source_*"),
        "no source training clips, only target ones",
    ),
    "the same clip twice": (
        lambda root: shutil.copy(first_clip(root), sorted((root / "fan" / "train").iterdir())[1]),
        "same contents twice",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), WARNED.values(), ids=WARNED)
def test_what_only_costs_quality_is_listed(
    spoilt: Path, spoil: Callable, message: str, capsys: pytest.CaptureFixture[str]
):
    spoil(spoilt)
    assert main(["check", "--config", "dcase2021", *overrides(spoilt)]) == 0
    assert message in " ".join(capsys.readouterr().out.split())
