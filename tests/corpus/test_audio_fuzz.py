"""Damaged headers: whatever a file says of itself, it is refused in words or read at the length that it has."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asdjax.corpus.audio import PLAUSIBLE_RATES_HZ, Decoding, WavHeader, decode, read_header, read_samples
from asdjax.errors import InputError

FORMS = [("WAV", "PCM_16", 1), ("WAV", "PCM_24", 2), ("WAV", "FLOAT", 1), ("WAVEX", "PCM_16", 3)]
HEADER = 80  # bytes that mutations aim at: every header of FORMS and the first samples
BITS = {"pcm16": 16, "pcm24": 24, "pcm32": 32, "float32": 32, "float64": 64}

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "number"]),
        st.integers(0, HEADER),
        st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1])),
    ),
    max_size=4,
)


def originals(folder: Path) -> list[bytes]:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3))
    for number, (form, subtype, channels) in enumerate(FORMS):
        soundfile.write(folder / f"{number}", values[:, :channels], 16_000, format=form, subtype=subtype)
    return [(folder / f"{number}").read_bytes() for number in range(len(FORMS))]


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


def claimed_by_data(content: bytes) -> tuple[int, int]:
    """Where samples begin and how many bytes they are, by a walk of this test's own over the chunks."""
    at, has_format = 12, False
    while content[at : at + 4] != b"data" or not has_format:
        has_format |= content[at : at + 4] == b"fmt "
        (length,) = struct.unpack_from("<I", content, at + 4)
        at += 8 + length + length % 2
    return at + 8, struct.unpack_from("<I", content, at + 4)[0]


def read_or_refusal(path: Path) -> WavHeader | str:
    try:
        return read_header(path)
    except InputError as error:
        return str(error)


def holds(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    header = read_or_refusal(path)
    if isinstance(header, str):
        assert header.startswith(f"{path}: ")
        assert header.isprintable()
        return
    start, length = claimed_by_data(content)
    assert (header.data_start, header.samples * header.channels * BITS[header.encoding] // 8) == (start, length)
    assert start + length <= len(content)
    assert PLAUSIBLE_RATES_HZ[0] <= header.sample_rate_hz <= PLAUSIBLE_RATES_HZ[1]
    assert read_samples(path, header).shape == (header.samples, header.channels)
    try:
        samples = decode(path, Decoding(16_000))
    except InputError:
        return
    np.testing.assert_array_equal(samples, np.frombuffer(content, "<i2", length // 2, start))


def fuzz(path: Path, examples: int, derandomize: bool) -> None:
    whole = originals(path.parent)

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(whole), EDITS, st.one_of(st.just(0), st.integers(0, 200)))
    def run(content: bytes, edits: list[tuple[str, int, int]], cut: int) -> None:
        holds(path, mutated(content, edits, cut))

    run()


def test_mutated_headers_are_refused_or_read_as_they_are(tmp_path: Path):
    fuzz(tmp_path / "a.wav", 2000, derandomize=True)


@pytest.mark.slow
def test_many_more_mutated_headers(tmp_path: Path):
    fuzz(tmp_path / "a.wav", 10_000, derandomize=False)


def test_whole_files_of_every_form_are_read(tmp_path: Path):
    for number, content in enumerate(originals(tmp_path)):
        holds(tmp_path / f"{number}.wav", content)
        assert read_header(tmp_path / f"{number}.wav").samples == 40
