"""`asdjax bench store`: decoding into a store and cutting crops from it, compared with librosa and soundfile."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import librosa
import numpy as np
import soundfile

from asdjax import features
from asdjax.config.fields import default_config
from asdjax.data.audio import Decoding
from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.data.store import WaveStore, open_store
from asdjax.features import make_spectrogram
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.measure import TimedRun, compute_rate, compute_ratio, time_calls, time_in_turns
from asdjax.runtime.progress import log
from asdjax.runtime.threads import count_cores, map_in_threads

MACHINE = "fan"
ALL_CORES = "all cores"
OURS, CROPS = f"store build, {ALL_CORES}", f"crops from the store, {ALL_CORES}"


class StoreSize(NamedTuple):
    """Number of clips, seconds of each, and number of crops cut from them."""

    clips: int = 1_000
    seconds: int = 10
    crops: int = 20_000


FULL = StoreSize()


def bench(repeats: int | None, size: StoreSize = FULL) -> dict[str, Any]:
    """Return the benchmark result: clips per second of each way to read them, and crops per second.

    Rivals run in one thread, which is their default, and on all cores, as ours does.
    """
    with tempfile.TemporaryDirectory() as folder:
        log(f"writing {size.clips:,} clips of {size.seconds} s to {folder}")
        root = Path(folder)
        clips = _write_corpus(root, size)
        paths = [clip.path for clip in clips]
        log("reading them in turn")
        record = BenchRecord()
        with redirect_stderr(StringIO()), _new_store(root, clips) as store:  # hides progress bars
            times = time_in_turns(
                {
                    OURS: time_calls(lambda: _build_store(root, clips)),
                    **_make_rivals("librosa.load", functools.partial(librosa.load, sr=None), paths),
                    **_make_rivals("soundfile.read", functools.partial(soundfile.read, dtype="int16"), paths),
                    **_make_rivals("reading the bytes", Path.read_bytes, paths),
                    "store opened again": time_calls(lambda: _open_store(store.home.parent, clips)),
                },
                repeats,
            )
            crops = time_in_turns({CROPS: _make_crop_run(store, size)}, repeats)[CROPS]
            record["size"] = size._asdict()
            record["clips"] = {
                name: {**compute_rate(timing, size.clips), "ratio": compute_ratio(times[OURS], timing)}
                for name, timing in times.items()
            }
            record["crops"] = {CROPS: compute_rate(crops, size.crops)}
        return record.refresh()


def _write_corpus(root: Path, size: StoreSize) -> tuple[Clip, ...]:
    """Write noise as one machine type in the layout of 2021."""
    rate_hz = default_config().signal.sample_rate_hz
    samples = size.seconds * rate_hz
    folder = root / "corpus" / MACHINE / "train"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-3000, 3000, samples + size.clips, dtype=np.int16)
    for i in range(size.clips):
        name = f"section_{i % 6:02d}_source_train_normal_{i:05d}_v_1.wav"
        soundfile.write(folder / name, noise[i : i + samples], rate_hz)
    return read_corpus([root / "corpus"]).clips


@contextmanager
def _new_store(root: Path, clips: tuple[Clip, ...]) -> Iterator[WaveStore]:
    """Build a store in a new folder, which is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        yield _open_store(Path(folder), clips)


def _build_store(root: Path, clips: tuple[Clip, ...]) -> None:
    with _new_store(root, clips):
        pass


def _open_store(folder: Path, clips: tuple[Clip, ...]) -> WaveStore:
    return open_store(folder, MACHINE, clips, Decoding(default_config().signal.sample_rate_hz))


def _make_rivals(name: str, read: Callable[[Path], object], paths: Sequence[Path]) -> dict[str, TimedRun]:
    """Return timed runs that read all paths in one thread and on all cores, keeping nothing in memory."""

    def one_by_one() -> None:
        for path in paths:
            read(path)

    def on_all_cores() -> None:
        for _ in map_in_threads(functools.partial(read, path) for path in paths):
            pass

    return {name: time_calls(one_by_one), f"{name}, {ALL_CORES}": time_calls(on_all_cores)}


def _make_crop_run(store: WaveStore, size: StoreSize) -> TimedRun:
    """Return a timed run that cuts crops from the memory map on all cores and copies each into a batch."""
    spectrogram = make_spectrogram(default_config())
    samples = [store.samples(i) for i in range(len(store))]
    generator = np.random.default_rng(0)
    clip = generator.integers(len(store), size=size.crops).tolist()
    frames = spectrogram.frames(len(samples[0])) - spectrogram.piece_frames + 1
    frame = generator.integers(frames, size=size.crops).tolist()
    workers = count_cores()

    def cut(worker: int) -> None:
        out = np.empty((default_config().train.batch_size, spectrogram.piece_samples), np.int16)
        for i in range(worker, size.crops, workers):
            start = features.first_sample(frame[i], spectrogram)
            out[i % len(out)] = features.crop(samples[clip[i]], start, spectrogram.piece_samples)

    def run() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(cut, range(workers)))

    return time_calls(run)
