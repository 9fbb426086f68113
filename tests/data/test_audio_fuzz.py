"""Damaged files: each is refused with a message, or read at its real length."""

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asdjax.data.audio import Decoding, decode, read_header, read_samples
from asdjax.data.formats.header import BYTES, PLAUSIBLE_RATES_HZ, AudioHeader
from asdjax.errors import InputError

PLAIN = [
    ("WAV", "PCM_16", 1),
    ("WAV", "PCM_24", 2),
    ("WAV", "FLOAT", 1),
    ("WAVEX", "PCM_16", 3),
    ("RF64", "PCM_16", 1),
    ("W64", "PCM_16", 2),
    ("AIFF", "PCM_16", 1),
    ("AIFF", "FLOAT", 2),
    ("CAF", "PCM_24", 1),
]
PACKED = [
    ("FLAC", "PCM_16", 1),
    ("FLAC", "PCM_24", 2),
    ("OGG", "VORBIS", 1),
    ("OGG", "OPUS", 2),
    ("MP3", "MPEG_LAYER_III", 1),
]
HEADER = 120  # bytes to mutate: every header of PLAIN and the first samples

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "number"]),
        st.integers(0, HEADER),
        st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1])),
    ),
    max_size=4,
)


def originals(folder: Path, forms: list[tuple[str, str, int]], samples: int = 40) -> list[bytes]:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (samples, 3))
    for number, (form, subtype, channels) in enumerate(forms):
        soundfile.write(folder / f"{number}", values[:, :channels], 16_000, format=form, subtype=subtype)
    return [(folder / f"{number}").read_bytes() for number in range(len(forms))]


def mutated(content: bytes, edits: list[tuple[str, int, int]], cut: int) -> bytes:
    data = bytearray(content)
    for what, at, value in edits:
        if what == "number":
            data[at : at + 4] = struct.pack("<I", value)
        elif what == "delete":
            del data[at : at + value % 8]
        else:
            data[at : at + (what == "set")] = bytes([value % 256])
    return bytes(data[: len(data) - cut])


def read_or_refusal(path: Path) -> AudioHeader | str:
    try:
        return read_header(path)
    except InputError as error:
        return str(error)


def holds(path: Path, content: bytes) -> None:
    """Check that an uncompressed file is refused, or that all bytes after its header are read or named."""
    path.write_bytes(content)
    header = read_or_refusal(path)
    if isinstance(header, str):
        assert header.startswith(f"{path}: ")
        assert header.isprintable()
        return
    used = header.samples * header.channels * BYTES[header.encoding]
    left = len(content) - header.data_start - used
    assert left >= 0
    assert left < 8 or header.cautions
    assert PLAUSIBLE_RATES_HZ[0] <= header.sample_rate_hz <= PLAUSIBLE_RATES_HZ[1]
    assert read_samples(path, header).shape == (header.samples, header.channels)
    try:
        samples = decode(path, Decoding(16_000))
    except InputError:
        return
    order = ">" if header.big_endian else "<"
    np.testing.assert_array_equal(samples, np.frombuffer(content, f"{order}i2", header.samples, header.data_start))


def holds_packed(path: Path, content: bytes, originals: dict[str, list[np.ndarray]]) -> None:
    """Check that a compressed file is refused or decoded exactly. MP3 has no checksum to ensure that."""
    path.write_bytes(content)
    header = read_or_refusal(path)
    try:
        samples = None if isinstance(header, str) else read_samples(path, header)
    except InputError as error:
        header = str(error)
    if isinstance(header, str):
        assert header.startswith(f"{path}: ")
        assert header.isprintable()
        return
    assert samples is not None
    assert samples.shape == (header.samples, header.channels)
    if header.encoding != "mp3":
        assert any(np.array_equal(samples, original) for original in originals[header.format])


def fuzz(holds: Callable[[bytes], None], whole: list[bytes], examples: int, derandomize: bool) -> None:
    @settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(whole), EDITS, st.one_of(st.just(0), st.integers(0, 200)))
    def run(content: bytes, edits: list[tuple[str, int, int]], cut: int) -> None:
        holds(mutated(content, edits, cut))

    run()


def fuzz_packed(folder: Path, examples: int, derandomize: bool) -> None:
    whole = originals(folder, PACKED, samples=3000)
    known: dict[str, list[np.ndarray]] = {}
    for number in range(len(whole)):
        header = read_header(folder / f"{number}")
        known.setdefault(header.format, []).append(read_samples(folder / f"{number}", header))
    fuzz(partial(holds_packed, folder / "a", originals=known), whole, examples, derandomize)


def test_mutated_headers_are_refused_or_read_as_they_are(tmp_path: Path):
    fuzz(partial(holds, tmp_path / "a"), originals(tmp_path, PLAIN), 1200, derandomize=True)


def test_mutated_compressed_files_are_refused_or_read_whole(tmp_path: Path):
    fuzz_packed(tmp_path, 300, derandomize=True)


@pytest.mark.slow
def test_many_more_mutated_headers(tmp_path: Path):
    fuzz(partial(holds, tmp_path / "a"), originals(tmp_path, PLAIN), 10_000, derandomize=False)
    fuzz_packed(tmp_path, 2000, derandomize=False)


def test_whole_files_of_every_form_are_read(tmp_path: Path):
    for number, content in enumerate(originals(tmp_path, PLAIN)):
        holds(tmp_path / f"{number}", content)
        assert read_header(tmp_path / f"{number}").samples == 40
