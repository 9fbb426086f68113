"""Wave store: samples are exact, a second opening decodes nothing, and a failure changes nothing on disk."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.data import store as store_module
from asdjax.data import store_index
from asdjax.data.audio import Decoding, OnMismatch, decode
from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.data.store import WaveStore, load_samples, open_store, read_digests, require_usable
from asdjax.errors import InputError
from asdjax.runtime.files import add_checksum, locked_folder, verify_checksum
from asdjax.runtime.threads import count_cores

RATE_HZ = 16_000


def clip(path: Path) -> Clip:
    return Clip(path, "fan", "00", "train", "source", "normal")


def record(folder: Path, lengths: Sequence[int]) -> list[Clip]:
    """Write clips of noise with the given lengths in samples."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, samples in enumerate(lengths):
        noise = np.random.default_rng(number).integers(-32768, 32768, samples, dtype=np.int16)
        soundfile.write(folder / f"{number}.wav", noise, RATE_HZ)
        clips.append(clip(folder / f"{number}.wav"))
    return clips


def opened(folder: Path, clips: Sequence[Clip], on_mismatch: OnMismatch = "error", rate_hz: int = RATE_HZ) -> WaveStore:
    return open_store(folder, "fan", clips, Decoding(rate_hz, on_mismatch))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_holds(store: WaveStore, clips: Sequence[Clip]) -> None:
    assert store.clips == tuple(clips)
    assert len(store) == len(clips)
    for i, one in enumerate(clips):
        expected, _ = soundfile.read(one.path, dtype="int16")
        np.testing.assert_array_equal(store.samples(i), expected)
        assert store.lengths[i] == len(expected)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the base names of files as they are decoded."""
    names = []

    def spy(path: Path, decoding: Decoding):
        names.append(Path(path).name)
        return decode(path, decoding)

    monkeypatch.setattr(store_module, "decode", spy)
    return names


def test_clips_of_all_lengths_come_back_without_padding(tmp_path: Path):
    clips = record(tmp_path / "wav", [500, 1, 12_345, 77])
    store = opened(tmp_path / "store", clips)
    assert_holds(store, clips)
    assert store.flat.size == 500 + 1 + 12_345 + 77
    assert store.lengths.dtype == store.offsets.dtype == np.int64
    assert store.samples(2).dtype == np.int16


def test_samples_are_a_read_only_view_of_the_file(tmp_path: Path):
    store = opened(tmp_path / "store", record(tmp_path / "wav", [50, 60]))
    assert np.shares_memory(store.samples(1), store.flat)
    assert isinstance(store.flat.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.samples(0)[0] = 1


def test_a_second_opening_decodes_nothing_and_writes_nothing(tmp_path: Path, decoded: list[str]):
    clips = record(tmp_path / "wav", [50, 60, 70])
    opened(tmp_path / "store", clips)
    before = contents(tmp_path / "store")
    decoded.clear()
    assert_holds(opened(tmp_path / "store", clips), clips)
    assert_holds(opened(tmp_path / "store", [clips[2], clips[0]]), [clips[2], clips[0]])
    assert decoded == []
    assert contents(tmp_path / "store") == before


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every folder read-only, and fail if one is locked. Permissions would not stop root."""
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    monkeypatch.setattr(store_module, "locked_folder", lambda *_, **__: pytest.fail("locked"))


def test_a_store_that_may_only_be_read_serves_what_it_holds(
    tmp_path: Path, decoded: list[str], request: pytest.FixtureRequest
):
    clips = record(tmp_path / "wav", [50, 60, 70])
    opened(tmp_path / "store", clips[:2])
    before = contents(tmp_path)
    decoded.clear()
    request.getfixturevalue("read_only")
    decoding = Decoding(RATE_HZ, "error")
    require_usable(tmp_path / "store", "fan", clips[:2], decoding)
    assert_holds(opened(tmp_path / "store", clips[:2]), clips[:2])
    assert set(read_digests(tmp_path / "store", "fan", clips[:2], decoding)) == {one.path for one in clips[:2]}
    assert decoded == []
    with pytest.raises(InputError, match=r"fan: expected the samples of .*/2\.wav in its .*read-only store.*; make"):
        opened(tmp_path / "store", clips)
    assert contents(tmp_path) == before


def test_only_new_and_changed_files_are_decoded(tmp_path: Path, decoded: list[str]):
    clips = record(tmp_path / "wav", [50, 60, 70, 80])
    opened(tmp_path / "store", [clips[0], clips[1], clips[3]])
    decoded.clear()
    soundfile.write(clips[1].path, np.arange(99, dtype=np.int16), RATE_HZ)
    assert_holds(opened(tmp_path / "store", clips), clips)
    assert sorted(decoded) == ["1.wav", "2.wav"]


def test_a_file_changed_within_its_length_is_decoded_again(tmp_path: Path):
    clips = record(tmp_path / "wav", [50, 60])
    opened(tmp_path / "store", clips)
    soundfile.write(clips[1].path, np.arange(60, dtype=np.int16), RATE_HZ)
    os.utime(clips[1].path, ns=(0, 12_345))
    assert_holds(opened(tmp_path / "store", clips), clips)


def test_the_bytes_follow_from_the_clips_and_not_from_threads_or_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clips = record(tmp_path / "wav", [300] * 40)
    opened(tmp_path / "plain", clips)
    opened(tmp_path / "grown", clips[::3])
    opened(tmp_path / "grown", clips)

    def late_first(path: Path, decoding: Decoding):
        time.sleep(0.02 if path.name in ("0.wav", "7.wav") else 0)
        return decode(path, decoding)

    monkeypatch.setattr(store_module, "decode", late_first)
    opened(tmp_path / "uneven", clips)
    assert contents(tmp_path / "plain") == contents(tmp_path / "grown") == contents(tmp_path / "uneven")


def test_a_flipped_bit_is_noticed_when_it_is_looked_for(tmp_path: Path):
    clips = record(tmp_path / "wav", [300, 200])
    opened(tmp_path / "store", clips)
    samples = next((tmp_path / "store").rglob("*.int16"))
    content = bytearray(samples.read_bytes())
    content[700] ^= 1
    samples.write_bytes(content)
    store = opened(tmp_path / "store", clips)
    store.verify(0)
    with pytest.raises(
        InputError,
        match=r"expected the decoded samples of .*1\.wav, got damaged ones; remove .*fan, and run asdjax train or",
    ):
        store.verify(1)


def test_one_file_under_two_clips_is_stored_once(tmp_path: Path):
    (one,) = record(tmp_path / "wav", [50])
    store = opened(tmp_path / "store", [one, one])
    assert store.flat.size == 50
    np.testing.assert_array_equal(store.samples(0), store.samples(1))


def test_samples_are_served_without_the_clips_and_without_a_change(tmp_path: Path):
    clips = record(tmp_path / "clips", [100, 200])
    store = opened(tmp_path / "store", clips)
    before = contents(tmp_path / "store")
    for one in clips:
        one.path.unlink()
    digests = {clips[1].path: store.digests[1], clips[0].path: store.digests[0]}
    loaded = load_samples(tmp_path / "store", clips[0].machine, digests)
    assert [loaded[clips[i].path].tolist() for i in (0, 1)] == [store.samples(i).tolist() for i in (0, 1)]
    assert contents(tmp_path / "store") == before
    with pytest.raises(InputError, match=r"expected the evaluated samples of .*other\.wav, got a store without it"):
        load_samples(tmp_path / "store", clips[0].machine, {tmp_path / "other.wav": ""})
    with pytest.raises(InputError, match="got a store without it"):
        load_samples(tmp_path / "nowhere", clips[0].machine, digests)
    assert not (tmp_path / "nowhere").exists()


def test_samples_that_were_changed_on_disk_are_not_served(tmp_path: Path):
    clips = record(tmp_path / "clips", [100])
    store = opened(tmp_path / "store", clips)
    (file,) = store.home.glob("samples-*.int16")
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    with pytest.raises(InputError, match="got damaged ones"):
        load_samples(tmp_path / "store", clips[0].machine, {clips[0].path: store.digests[0]})


def test_another_recording_than_was_asked_for_is_not_served(tmp_path: Path):
    clips = record(tmp_path / "clips", [100])
    opened(tmp_path / "store", clips)
    with pytest.raises(InputError, match=r"\.wav, got another recording under this path; run asdjax evaluate again"):
        load_samples(tmp_path / "store", clips[0].machine, {clips[0].path: "another digest"})


def test_digests_are_those_of_a_store_that_is_not_built_for_them(tmp_path: Path):
    clips = record(tmp_path / "clips", [100, 200])

    def digests() -> dict[Path, str]:
        return read_digests(tmp_path / "store", "fan", clips, Decoding(RATE_HZ))

    before_build = digests()
    assert not (tmp_path / "store").exists()
    opened(tmp_path / "store", clips[:1])
    before = contents(tmp_path / "store")
    assert digests() == before_build
    assert contents(tmp_path / "store") == before
    assert before_build == dict(
        zip((one.path for one in clips), opened(tmp_path / "store", clips).digests, strict=True)
    )


def test_samples_are_found_wherever_the_clips_lie_now(tmp_path: Path):
    clips = record(tmp_path / "clips", [100, 200])
    store = opened(tmp_path / "store", clips)
    elsewhere = tmp_path / "elsewhere" / clips[1].path.name
    loaded = load_samples(tmp_path / "store", "fan", {elsewhere: store.digests[1]})
    assert loaded[elsewhere].tolist() == store.samples(1).tolist()


def test_conversion_is_what_decode_does(tmp_path: Path, shared_data: Path):
    clips = [clip(path) for path in sorted((shared_data / "sounds" / "odd").iterdir())]
    store = opened(tmp_path, clips, on_mismatch="convert")
    for i, one in enumerate(clips):
        expected = decode(one.path, Decoding(RATE_HZ, "convert"))
        np.testing.assert_array_equal(store.samples(i), expected)


def test_real_clips(tmp_path: Path, shared_data: Path):
    corpus = read_corpus([shared_data / "sounds" / "dcase2020"])
    clips = corpus.select(machine="ToyCar")
    store = open_store(tmp_path, "ToyCar", clips, Decoding(RATE_HZ))
    assert_holds(store, clips)
    assert set(store.lengths) == {176_000}


@pytest.mark.parametrize("existing", [False, True])
def test_a_bad_file_is_refused_and_changes_nothing_on_disk(tmp_path: Path, existing: bool):
    clips = record(tmp_path / "wav", [50] * 30)
    folder = tmp_path / "new" / "store"
    if existing:
        opened(folder, clips[:5])
    before = sorted(tmp_path.rglob("*")), contents(tmp_path)
    clips[20].path.write_bytes(b"fLaC")
    with pytest.raises(InputError, match=r"20\.wav: .*FLAC"):
        opened(folder, clips)
    clips[20].path.write_bytes(before[1]["wav/20.wav"])
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == before


def test_a_missing_file_is_named(tmp_path: Path):
    clips = record(tmp_path / "wav", [50])
    with pytest.raises(InputError, match=r"gone\.wav: expected a recording, got nothing there"):
        opened(tmp_path / "store", [*clips, clip(tmp_path / "gone.wav")])


def test_other_settings_are_refused_and_named(tmp_path: Path):
    clips = record(tmp_path / "wav", [50])
    opened(tmp_path / "store", clips)
    before = contents(tmp_path / "store")
    for changes, expected in [
        ({"on_mismatch": "convert"}, "on_mismatch convert, got a store built with error"),
        ({"rate_hz": 8000}, "sample_rate_hz 8000, got a store built with 16000"),
    ]:
        with pytest.raises(InputError) as refused:
            opened(tmp_path / "store", clips, **changes)
        assert expected in str(refused.value)
        assert f"remove {tmp_path / 'store' / 'fan'}" in str(refused.value)
    assert contents(tmp_path / "store") == before


def test_a_store_of_other_files_is_refused_and_kept(tmp_path: Path):
    mine, others = record(tmp_path / "mine", [50]), record(tmp_path / "others", [60])
    opened(tmp_path / "store", others)
    before = contents(tmp_path / "store")
    with pytest.raises(InputError, match="holds other clips") as refused:
        opened(tmp_path / "store", mine)
    assert str(others[0].path) in str(refused.value)
    assert contents(tmp_path / "store") == before


def damage_index(home: Path, change) -> None:
    content = json.loads((home / "index.json").read_text())
    change(content)
    (home / "index.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: (home / "index.json").write_text("{"),
        lambda home: (home / "index.json").write_text("[]"),
        lambda home: damage_index(home, lambda content: content.pop("sha256")),
        lambda home: damage_index(home, lambda content: content["clips"][1]["place"].update(offset=49)),
        lambda home: damage_index(home, lambda content: content["clips"][1]["place"].update(sha256=64 * "0")),
        lambda home: damage_index(home, lambda content: content["clips"].pop()),
        lambda home: ((home / "index.json").unlink(), (home / "index.json").mkdir()),
        lambda home: os.truncate(next(home.glob("*.int16")), 100),
        lambda home: next(home.glob("*.int16")).unlink(),
    ],
)
def test_a_damaged_store_is_refused_with_the_remedy(tmp_path: Path, damage):
    clips = record(tmp_path / "wav", [50, 60])
    opened(tmp_path / "store", clips)
    home = tmp_path / "store" / "fan"
    damage(home)
    with pytest.raises(InputError, match="remove") as refused:
        opened(tmp_path / "store", clips)
    assert str(home) in str(refused.value)
    shutil.rmtree(home)
    assert_holds(opened(tmp_path / "store", clips), clips)


def test_a_store_of_another_version_is_refused_and_said_to_be(tmp_path: Path):
    clips = record(tmp_path / "wav", [50])
    index = opened(tmp_path / "store", clips).home / "index.json"
    index.write_text(
        json.dumps(add_checksum({**verify_checksum(index.read_text()), "version": store_index.VERSION + 1}))
    )
    with pytest.raises(InputError, match=r"index\.json: expected version 4, got a store built with 5; remove"):
        opened(tmp_path / "store", clips)


@pytest.mark.parametrize("doomed", ["samples", "index.json"])
def test_a_build_that_dies_before_a_rename_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doomed: str
):
    clips = record(tmp_path / "wav", [50, 60, 70])
    folder = tmp_path / "store"
    opened(folder, clips[:2])
    before = contents(folder)
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.name.startswith(doomed):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(InputError, match="No space left"):
            opened(folder, clips)
    assert contents(folder) == before
    assert_holds(opened(folder, clips), clips)


def test_what_a_killed_build_left_is_ignored_and_goes(tmp_path: Path):
    clips = record(tmp_path / "wav", [50, 60])
    opened(tmp_path / "whole", clips)
    home = tmp_path / "killed" / "fan"
    home.mkdir(parents=True)
    (home / "samples.partial").write_bytes(b"half a clip")
    (home / "index.json.partial").write_bytes(b"{")
    (home / "samples-0123456789abcdef.int16").write_bytes(b"in no index")
    opened(tmp_path / "killed", clips)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path):
    clips = record(tmp_path / "wav", [50])
    (tmp_path / "store").write_text("mine")
    with pytest.raises(InputError, match="choose another folder"):
        opened(tmp_path / "store", clips)
    assert (tmp_path / "store").read_text() == "mine"


def test_a_second_opener_waits_until_the_first_is_done(tmp_path: Path, decoded: list[str]):
    clips = record(tmp_path / "wav", [50, 60])
    with ThreadPoolExecutor() as pool:
        with locked_folder(tmp_path / "store" / "fan"):
            waiting = pool.submit(opened, tmp_path / "store", clips)
            assert not wait([waiting], timeout=0.2).done
            assert decoded == []
        assert_holds(waiting.result(timeout=10), clips)


def test_a_build_says_one_line_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clips = record(tmp_path / "wav", [50, 60])
    opened(tmp_path / "store", clips)
    opened(tmp_path / "store", clips)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("store fan: 2 of 2 clips in ")


BUILD = """
import sys, time
from pathlib import Path
from asdjax.data import store
from asdjax.data.audio import Decoding
from asdjax.data.clips import Clip

decode = store.decode

def slowly(path, decoding):
    time.sleep(0.004)
    return decode(path, decoding)

store.decode = slowly
folder, *paths = sys.argv[1:]
clips = [Clip(Path(path), "fan", "00", "train", "source", "normal") for path in paths]
print("begun", flush=True)
store.open_store(Path(folder), "fan", clips, Decoding(16_000))
"""


def whole(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.endswith(".partial")}


@pytest.mark.slow
def test_a_build_killed_twenty_times_at_random_moments_ends_with_the_same_bytes(tmp_path: Path):
    """Kill ten first builds, and ten builds that add clips to an existing store."""
    clips = record(tmp_path / "wav", [300 + i for i in range(200)])
    opened(tmp_path / "undisturbed", clips)
    rng, killed = random.Random(0), 0
    for round_clips in (clips[::2], clips):
        while killed < (10 if round_clips is not clips else 20):
            before = whole(tmp_path / "store") if round_clips is clips else {}
            words = [sys.executable, "-c", BUILD, str(tmp_path / "store"), *(str(one.path) for one in round_clips)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.6 * 0.004 * 100 / count_cores()))
                process.kill()
            assert process.returncode == -signal.SIGKILL, "it had ended before it could be killed"
            killed += 1
            assert whole(tmp_path / "store").items() >= before.items()
        opened(tmp_path / "store", round_clips)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_what_is_odd_about_files_is_said_once_a_kind_when_they_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    clips = record(tmp_path / "wav", [50, 60, 70])
    for clip_ in clips[:2]:
        samples, _ = soundfile.read(clip_.path, dtype="int16")
        soundfile.write(clip_.path, samples, RATE_HZ, format="FLAC", subtype="PCM_16")
    opened(tmp_path / "store", clips)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert line == f"fan: warning: {clips[0].path} (and 1 more): named .wav, but FLAC by its content; rename it"
    opened(tmp_path / "store", clips)
    assert "warning" not in capsys.readouterr().err
