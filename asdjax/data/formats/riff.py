"""WAV files: RIFF, its 64-bit forms (RF64, BW64) and Wave64, also with sizes that a recorder did not fill in.

This is the only parser of WAV files here, so that no two parsers can disagree about a damaged file.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asdjax.data.formats.chunks import LEFT_OPEN, Chunk, Walk, find_unread, has_only_chunks
from asdjax.data.formats.header import (
    COPY,
    TRUE_LENGTH,
    AudioHeader,
    Caution,
    Encoding,
    SampleFormat,
    Source,
    make_header,
    require_plausible,
)
from asdjax.data.formats.kinds import W64_RIFF

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_SUBFORMAT_TAILS = (
    bytes.fromhex("000000001000800000aa00389b71"),
    bytes.fromhex("00002107d3118644c8c1ca000000"),  # ambisonic B format
)
_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (_PCM, 2): "pcm16",
    (_PCM, 3): "pcm24",
    (_PCM, 4): "pcm32",
    (_FLOAT, 4): "float32",
    (_FLOAT, 8): "float64",
}
_OTHER_CODECS = {
    _PCM: "PCM",
    0x0002: "Microsoft ADPCM",
    _FLOAT: "float",
    0x0006: "A-law",
    0x0007: "mu-law",
    0x0011: "IMA ADPCM",
    0x0031: "GSM 6.10",
    0x0040: "G.721 ADPCM",
    0x0050: "MPEG audio",
    0x0055: "MP3",
    0x00FF: "AAC",
    0x0160: "Windows Media (WMA)",
    0x0161: "Windows Media (WMA)",
    0x674F: "Ogg Vorbis",
    0xF1AC: "FLAC",
}
_WAVE64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
#: A size of at least this value means that the recorder left the size open.
_OPEN, _OPEN_64 = 0x7FFFF000, 0x7FFFFFFFFFFFF000
_OTHER_CHUNKS = (b"LIST", b"fact", b"bext", b"JUNK", b"junk", b"PEAK", b"cue ", b"smpl", b"iXML", b"id3 ")
_NAMES = (b"data", b"fmt ", *_OTHER_CHUNKS)
_OTHER_NAME = re.compile(b"|".join(_OTHER_CHUNKS))
_LEAST_SAMPLE_BYTES = 64  # of samples that show whether 24 bits take up four bytes
_MAX_TRAILING = 65_536  # bytes of chunks after samples whose length is left open


@dataclass(frozen=True, slots=True)
class _Claims:
    """Sizes in a header.

    `end` is the byte at which the file ends by its header, None if the header leaves it open. Sizes from `open_from`
    on mean that a size was left open. `walk` yields the chunks.
    """

    end: int | None
    open_from: int
    walk: Walk


def read_riff(source: Source) -> AudioHeader:
    """Read the header of RIFF, RF64 or BW64 with PCM of 16, 24 or 32 bits or float of 32 or 64 bits."""
    name, size = struct.unpack("<4sI", source.read(source.begin, 8).ljust(8, b"\0"))
    sizes_64 = _read_sizes_64(source) if name != b"RIFF" else None
    total, limit = (sizes_64[0], _OPEN_64) if sizes_64 and size == 0xFFFFFFFF else (size, _OPEN)
    claims = _make_claims(total, limit, source.begin + 8, _walk_chunks)
    fmt, data = _find_chunks(source, _walk_chunks(source, source.begin + 12))
    length = data.length
    if sizes_64 and length == 0xFFFFFFFF:
        length, claims = sizes_64[1], replace(claims, open_from=_OPEN_64)
    return _make_wav_header(source, "WAV", fmt, data.at, length, claims)


def read_stream_head(head: bytes, name: str) -> tuple[SampleFormat, int, int | None] | None:
    """Read the header of RIFF, RF64 or BW64 that arrives as a stream, from its first bytes.

    Returns the form of the samples, the byte at which they begin, and their number of bytes, None if it was left open;
    None instead if more bytes are needed. `name` is for error messages.
    """
    source = Source(Path(name), io.BytesIO(head), 0, len(head))
    begin = next((chunk.at for chunk in _walk_chunks(source, 12) if chunk.name == b"data"), len(head))
    if len(head) < begin + _LEAST_SAMPLE_BYTES:
        return None
    fmt, data = _find_chunks(source, _walk_chunks(source, 12))
    form, _ = _parse_format(source, "WAV", fmt, data.at)
    sizes_64 = _read_sizes_64(source) if head[:4] != b"RIFF" else None
    length, limit = (sizes_64[1], _OPEN_64) if sizes_64 and data.length == 0xFFFFFFFF else (data.length, _OPEN)
    return form, data.at, length if 0 < length < limit else None


def read_wave64(source: Source) -> AudioHeader:
    """Read the header of Wave64 (Sony's W64), which is RIFF with GUIDs as names and sizes of 64 bits."""
    if source.read(source.begin, 40)[24:] != b"wave" + _WAVE64_TAIL:
        raise source.error("damaged: expected Wave64, its header is cut off or changed", COPY)
    (total,) = struct.unpack("<Q", source.read(source.begin + len(W64_RIFF), 8))
    fmt, data = _find_chunks(source, _walk_chunks_64(source, source.begin + 40))
    claims = _make_claims(total, _OPEN_64, source.begin, _walk_chunks_64)
    return _make_wav_header(source, "W64", fmt, data.at, data.length, claims)


def _make_claims(total: int, limit: int, base: int, walk: Walk) -> _Claims:
    return _Claims(base + total if 0 < total < limit else None, limit, walk)


def _read_sizes_64(source: Source) -> tuple[int, int] | None:
    """Return the sizes of the file and of its samples from a ds64 chunk, None if there is no such chunk."""
    head = source.read(source.begin + 12, 24)
    if len(head) < 24 or head[:4] != b"ds64":
        return None
    total, data = struct.unpack_from("<QQ", head, 8)
    return total, data


def _walk_chunks(source: Source, at: int) -> Iterator[Chunk]:
    while at + 8 <= source.size:
        name, length = struct.unpack("<4sI", source.read(at, 8))
        if name == bytes(4):  # zeros of an unwritten disk, maybe gigabytes
            return
        end = at + 8 + length
        # some writers leave out the byte that pads an odd length
        padded = length % 2 and source.read(end, 4) not in _NAMES
        yield Chunk(name, at + 8, length, end + padded)
        at = end + padded


def _walk_chunks_64(source: Source, at: int) -> Iterator[Chunk]:
    while at + 24 <= source.size:
        name, length = struct.unpack("<16sQ", source.read(at, 24))
        end = at + max(length, 24)
        end += -(end - source.begin) % 8
        known = name[4:] == _WAVE64_TAIL
        content = length if length == 2**64 - 1 else max(length - 24, 0)  # an open size excludes the header
        yield Chunk(name[:4] if known else b"", at + 24, content, end)
        at = end


def _find_chunks(source: Source, chunks: Iterator[Chunk]) -> tuple[bytes, Chunk]:
    """Return the content of the fmt chunk and the data chunk. Raise InputError if one is missing."""
    fmt, data = b"", None
    for chunk in chunks:
        if chunk.name == b"fmt ":
            found = source.read(chunk.at, min(chunk.length, 40))
            if fmt and found[:16] != fmt[:16]:
                raise source.error("damaged: expected one fmt chunk, got two fmt chunks that differ", COPY)
            fmt = fmt or found
        elif chunk.name == b"data":
            data = data or chunk
        if fmt and data:
            return fmt, data
    missing = "a data chunk" if fmt else "a fmt chunk"
    raise source.error(f"truncated or damaged: it lacks {missing}", COPY)


def _make_wav_header(source: Source, name: str, fmt: bytes, start: int, claimed: int, claims: _Claims) -> AudioHeader:
    form, cautions = _parse_format(source, name, fmt, start)
    length, length_cautions = _find_length(source, start, claimed, claims)
    return make_header(source, form, start, length, [*cautions, *length_cautions])


def _find_length(source: Source, start: int, claimed: int, claims: _Claims) -> tuple[int, list[Caution]]:
    """Return the length of the samples in bytes by the header's sizes and the file's size, with cautions."""
    available = source.size - start
    if 0 < claimed <= available:
        return claimed, find_unread(source, start + claimed, claims.walk)
    if claimed == 0 and (available == 0 or has_only_chunks(source, start, claims.walk)):
        raise source.error("holds a header and no samples", COPY)
    untagged = max(source.untagged_end(), start)
    cut_off = claims.end is not None and claims.end > source.size
    agrees = claims.end in (source.size, untagged)
    if cut_off and claimed in range(1, claims.open_from):
        raise source.truncated_error(claimed, available)
    if cut_off:
        what = f"truncated: its header says {claims.end} bytes in all, got {source.size}"
        raise source.error(what, TRUE_LENGTH)
    if claimed and claimed < claims.open_from and not agrees:
        raise source.truncated_error(claimed, available)
    return _find_end(source, start, untagged, claims.walk) - start, [LEFT_OPEN]


def _find_end(source: Source, start: int, end: int, walk: Walk) -> int:
    """Return the byte at which trailing chunks begin, `end` if there are none."""
    begin = max(start, end - _MAX_TRAILING)
    candidates = (begin + name.start() for name in _OTHER_NAME.finditer(source.read(begin, end - begin)))
    return next((at for at in candidates if has_only_chunks(source, at, walk)), end)


def _parse_format(source: Source, name: str, fmt: bytes, start: int) -> tuple[SampleFormat, list[Caution]]:
    if len(fmt) < 16:
        raise source.error(f"damaged: its fmt chunk has {len(fmt)} of 16 bytes", COPY)
    tag, channels, rate_hz, byte_rate, align, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] in _SUBFORMAT_TAILS:
        tag = struct.unpack_from("<H", fmt, 24)[0]
    container = -(-bits // 8)
    if tag in (_PCM, _FLOAT):
        require_plausible(source, channels, rate_hz)
    encoding = _ENCODINGS.get((tag, container)) if bits % 8 == 0 or tag == _PCM else None
    if encoding is None:
        codec = _OTHER_CODECS.get(tag, f"codec 0x{tag:04x}")
        raise source.error(
            f"expected PCM of 16, 24 or 32 bits or float of 32 or 64, got {bits}-bit {codec}",
            "make 16-bit PCM of it: ffmpeg -i FILE -c:a pcm_s16le NEW.wav",
        )
    frame = channels * container
    if align == frame:
        return SampleFormat(name, rate_hz, channels, encoding), []
    if encoding == "pcm24" and align == 4 * channels and byte_rate != rate_hz * frame and _is_padded(source, start):
        return SampleFormat(name, rate_hz, channels, "pcm32"), []
    if align and byte_rate == rate_hz * align:
        raise source.error(
            f"damaged header: expected frames of {frame} bytes for {channels} channels of {bits} bits, got {align} in "
            "two of its fields",
            COPY,
        )
    what = f"its header has a block align of {align}, but its channels and bits need {frame}"
    return SampleFormat(name, rate_hz, channels, encoding), [Caution(what, "nothing to do if it sounds right")]


def _is_padded(source: Source, start: int) -> bool:
    """Return whether the first samples are 24 bits in four bytes, with the lowest byte zero."""
    return not any(source.read(start, 65_536)[::4])
