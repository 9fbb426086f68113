"""AIFF and CAF: where they keep uncompressed samples. Other codecs in them are refused by name."""

import math
import struct
from collections.abc import Iterator

from asdjax.data.formats.chunks import LEFT_OPEN, Chunk, left_out, only_chunks, unread
from asdjax.data.formats.header import COPY, TO_WAV, AudioHeader, Encoding, Format, Source, truncated, uncompressed
from asdjax.errors import InputError

_PCM: dict[int, Encoding] = {2: "pcm16", 3: "pcm24", 4: "pcm32"}
_FLOATS: dict[int, Encoding] = {4: "float32", 8: "float64"}
#: Compression of AIFC: the encoding, where it names one, and whether the high byte is first.
_AIFC: dict[bytes, tuple[Encoding | None, bool]] = {
    b"NONE": (None, True),
    b"twos": (None, True),
    b"sowt": (None, False),
    b"in24": ("pcm24", True),
    b"in32": ("pcm32", True),
    b"42ni": ("pcm24", False),
    b"23ni": ("pcm32", False),
    b"42n1": ("pcm24", False),  # as libsndfile writes it
    b"ni24": ("pcm24", False),
    b"ni32": ("pcm32", False),
    b"fl32": ("float32", True),
    b"FL32": ("float32", True),
    b"fl64": ("float64", True),
    b"FL64": ("float64", True),
}
_CODECS = {
    b"alac": "Apple Lossless (ALAC)",
    b"aac ": "AAC",
    b"ima4": "IMA ADPCM",
    b"ulaw": "mu-law",
    b"ULAW": "mu-law",
    b"alaw": "A-law",
    b"ALAW": "A-law",
    b".mp3": "MP3",
    b"opus": "Opus",
    b"flac": "FLAC",
    b"raw ": "8-bit PCM",
}
_CAF_FLOAT, _CAF_LITTLE_ENDIAN = 1, 2
_OPEN_CAF = 2**64 - 1
#: From this on the size of an AIFF is no number but a mark that it was left open, as SoX writes it into a pipe.
_OPEN_AIFF = 0x7F000000


def read_aiff(source: Source) -> AudioHeader:
    """Read the header of AIFF or AIFC; takes PCM of 16, 24, 32 bits and float of 32, 64 bits."""
    comm, data = b"", None
    for chunk in _iff_chunks(source, source.begin + 12):
        if chunk.name == b"COMM":
            comm = source.read(chunk.at, min(chunk.length, 22))
        elif chunk.name == b"SSND":
            data = data or chunk
    compressed = source.read(source.begin + 8, 4) == b"AIFC"
    if len(comm) < (22 if compressed else 18) or data is None:
        missing = "its COMM chunk" if data else "an SSND chunk"
        raise source.refusal(f"truncated or damaged AIFF: it lacks {missing}", COPY)
    channels, frames, bits, rate = struct.unpack_from(">HIH10s", comm)
    encoding, big_endian = _AIFC.get(comm[18:22], (None, None)) if compressed else (None, True)
    encoding = encoding or (None if big_endian is None else _PCM.get(-(-bits // 8)))
    if encoding is None or big_endian is None:
        codec = _CODECS.get(comm[18:22], "an unknown codec") if big_endian is None else f"{bits}-bit PCM"
        raise _other_codec(source, "AIFF", codec)
    form = Format("AIFF", _extended(rate), channels, encoding, big_endian)
    begin = data.at + 8 + int.from_bytes(source.read(data.at, 4), "big")
    if _is_open(source, data, frames):
        return uncompressed(source, form, begin, max(source.untagged_end() - begin, 0), [LEFT_OPEN])
    claimed, available = frames * form.frame, min(data.at + data.length, source.size) - begin
    if claimed > available:
        raise truncated(source, claimed, max(available, 0))
    cautions = [left_out(available - claimed)] if available - claimed >= form.frame else []
    return uncompressed(source, form, begin, claimed, cautions)


def _is_open(source: Source, data: Chunk, frames: int) -> bool:
    """Return whether an AIFF's sizes leave its length open: 0 with samples behind, or past the end where its whole
    size is a mark or agrees with the file."""
    if frames == 0 and data.length in (0, 8):
        begin = data.at + 8
        return begin < source.size and not only_chunks(source, begin, _iff_chunks)
    total = int.from_bytes(source.read(source.begin + 4, 4), "big")
    return data.at + data.length > source.size and (
        total >= _OPEN_AIFF or source.begin + 8 + total in (source.size, source.untagged_end())
    )


def read_caf(source: Source) -> AudioHeader:
    """Read the header of Apple's Core Audio Format; takes PCM of 16, 24, 32 bits and float of 32, 64 bits."""
    desc, data = b"", None
    for chunk in _caf_chunks(source, source.begin + 8):
        if chunk.name == b"desc":
            desc = source.read(chunk.at, 32)
        elif chunk.name == b"data":
            data = data or chunk
    if len(desc) < 32 or data is None:
        missing = "its data chunk" if len(desc) == 32 else "its desc chunk"
        raise source.refusal(f"truncated or damaged CAF: it lacks {missing}", COPY)
    rate, codec, flags, packet, frames, channels, bits = struct.unpack(">d4sIIIII", desc)
    floats = bool(flags & _CAF_FLOAT)
    encoding = (_FLOATS if floats else _PCM).get(bits // 8 if bits % 8 == 0 else 0)
    if codec != b"lpcm" or encoding is None:
        kind = f"{bits}-bit {'float' if floats else 'PCM'}"
        raise _other_codec(source, "CAF", kind if codec == b"lpcm" else _CODECS.get(codec, "an unknown codec"))
    if frames != 1 or packet != channels * bits // 8:
        raise source.refusal(
            f"damaged header: {channels} channels of {bits} bits in packets of {packet} bytes and {frames} frames", COPY
        )
    form = Format("CAF", int(rate) if math.isfinite(rate) else 0, channels, encoding, not flags & _CAF_LITTLE_ENDIAN)
    begin = data.at + 4  # behind the count of edits
    if data.length == _OPEN_CAF:
        return uncompressed(source, form, begin, max(source.untagged_end() - begin, 0), [LEFT_OPEN])
    if data.next > source.size:
        raise truncated(source, data.length - 4, max(source.size - begin, 0))
    return uncompressed(source, form, begin, max(data.length - 4, 0), unread(source, data.next, _caf_chunks))


def _iff_chunks(source: Source, at: int) -> Iterator[Chunk]:
    return _chunks(source, at, ">4sI")


def _caf_chunks(source: Source, at: int) -> Iterator[Chunk]:
    return _chunks(source, at, ">4sQ")


def _chunks(source: Source, at: int, head: str) -> Iterator[Chunk]:
    """Yield the chunks from a byte on; those of IFF, with sizes of 32 bits, are padded to even lengths."""
    size = struct.calcsize(head)
    while at + size <= source.size:
        name, length = struct.unpack(head, source.read(at, size))
        if name == bytes(4):  # a disk's zeros, of which there may be gigabytes
            return
        padding = length % 2 if size == 8 else 0
        yield Chunk(name, at + size, length, at + size + length + padding)
        at += size + length + padding


def _extended(number: bytes) -> int:
    """Return the whole part of an 80-bit float, 0 for what is no rate."""
    exponent, mantissa = struct.unpack(">HQ", number)
    shift = 16383 + 63 - exponent
    return mantissa >> shift if 0 <= shift < 64 else 0


def _other_codec(source: Source, name: str, codec: str) -> InputError:
    what = f"expected PCM of 16, 24 or 32 bits or float of 32 or 64, got {codec} in {name}"
    return source.refusal(what, TO_WAV)
