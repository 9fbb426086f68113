"""AIFF and CAF files with uncompressed samples. Other codecs in them are refused by name."""

import math
import struct
from collections.abc import Iterator

from asdjax.data.formats.chunks import LEFT_OPEN, Chunk, find_unread, has_only_chunks, unread_caution
from asdjax.data.formats.header import COPY, TO_WAV, AudioHeader, Encoding, SampleFormat, Source, make_header
from asdjax.errors import InputError

_PCM: dict[int, Encoding] = {2: "pcm16", 3: "pcm24", 4: "pcm32"}
_FLOATS: dict[int, Encoding] = {4: "float32", 8: "float64"}
#: Encoding of each AIFC compression type (None: by the number of bits), and whether it is big-endian.
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
#: A size of at least this value means that it was left open, as SoX does when it writes AIFF to a pipe.
_OPEN_AIFF = 0x7F000000


def read_aiff(source: Source) -> AudioHeader:
    """Read the header of AIFF or AIFC with PCM of 16, 24 or 32 bits or float of 32 or 64 bits."""
    comm, data = b"", None
    for chunk in _walk_iff(source, source.begin + 12):
        if chunk.name == b"COMM":
            comm = source.read(chunk.at, min(chunk.length, 22))
        elif chunk.name == b"SSND":
            data = data or chunk
    compressed = source.read(source.begin + 8, 4) == b"AIFC"
    if len(comm) < (22 if compressed else 18) or data is None:
        missing = "its COMM chunk" if data else "an SSND chunk"
        raise source.error(f"truncated or damaged AIFF: it lacks {missing}", COPY)
    channels, frames, bits, rate = struct.unpack_from(">HIH10s", comm)
    encoding, big_endian = _AIFC.get(comm[18:22], (None, None)) if compressed else (None, True)
    encoding = encoding or (None if big_endian is None else _PCM.get(-(-bits // 8)))
    if encoding is None or big_endian is None:
        codec = _CODECS.get(comm[18:22], "an unknown codec") if big_endian is None else f"{bits}-bit PCM"
        raise _codec_error(source, "AIFF", codec)
    form = SampleFormat("AIFF", _parse_extended(rate), channels, encoding, big_endian)
    begin = data.at + 8 + int.from_bytes(source.read(data.at, 4), "big")
    if _is_open(source, data, frames):
        return make_header(source, form, begin, max(source.untagged_end() - begin, 0), [LEFT_OPEN])
    # some writers leave the size of the samples at 0 and give the number of frames
    end = data.at + data.length if data.length > 8 else source.size
    claimed, available = frames * form.frame_bytes, min(end, source.size) - begin
    if claimed > available:
        raise source.truncated_error(claimed, max(available, 0))
    cautions = [unread_caution(available - claimed)] if available - claimed >= form.frame_bytes else []
    return make_header(source, form, begin, claimed, cautions)


def _is_open(source: Source, data: Chunk, frames: int) -> bool:
    """Return whether an AIFF's sizes leave its length open.

    They do if they are 0 although samples follow. They also do if the samples end after the file, and the file's size
    in the header is an open mark or correct.
    """
    if frames == 0 and data.length in (0, 8):
        begin = data.at + 8
        return begin < source.size and not has_only_chunks(source, begin, _walk_iff)
    total = int.from_bytes(source.read(source.begin + 4, 4), "big")
    return data.at + data.length > source.size and (
        total >= _OPEN_AIFF or source.begin + 8 + total in (source.size, source.untagged_end())
    )


def read_caf(source: Source) -> AudioHeader:
    """Read the header of Apple's Core Audio Format with PCM of 16, 24 or 32 bits or float of 32 or 64 bits."""
    desc, data = b"", None
    for chunk in _walk_caf(source, source.begin + 8):
        if chunk.name == b"desc":
            desc = source.read(chunk.at, 32)
        elif chunk.name == b"data":
            data = data or chunk
    if len(desc) < 32 or data is None:
        missing = "its data chunk" if len(desc) == 32 else "its desc chunk"
        raise source.error(f"truncated or damaged CAF: it lacks {missing}", COPY)
    rate, codec, flags, packet, frames, channels, bits = struct.unpack(">d4sIIIII", desc)
    floats = bool(flags & _CAF_FLOAT)
    encoding = (_FLOATS if floats else _PCM).get(bits // 8 if bits % 8 == 0 else 0)
    if codec != b"lpcm" or encoding is None:
        kind = f"{bits}-bit {'float' if floats else 'PCM'}"
        raise _codec_error(source, "CAF", kind if codec == b"lpcm" else _CODECS.get(codec, "an unknown codec"))
    if frames != 1 or packet != channels * bits // 8:
        raise source.error(
            f"damaged header: {channels} channels of {bits} bits in packets of {packet} bytes and {frames} frames", COPY
        )
    rate_hz = int(rate) if math.isfinite(rate) else 0
    form = SampleFormat("CAF", rate_hz, channels, encoding, big_endian=not flags & _CAF_LITTLE_ENDIAN)
    begin = data.at + 4  # after the count of edits
    if data.length == _OPEN_CAF:
        return make_header(source, form, begin, max(source.untagged_end() - begin, 0), [LEFT_OPEN])
    if data.next > source.size:
        raise source.truncated_error(data.length - 4, max(source.size - begin, 0))
    return make_header(source, form, begin, max(data.length - 4, 0), find_unread(source, data.next, _walk_caf))


def _walk_iff(source: Source, at: int) -> Iterator[Chunk]:
    return _walk_chunks(source, at, ">4sI")


def _walk_caf(source: Source, at: int) -> Iterator[Chunk]:
    return _walk_chunks(source, at, ">4sQ")


def _walk_chunks(source: Source, at: int, head: str) -> Iterator[Chunk]:
    """Yield the chunks from a byte on. IFF chunks, which have 32-bit sizes, are padded to even lengths."""
    size = struct.calcsize(head)
    while at + size <= source.size:
        name, length = struct.unpack(head, source.read(at, size))
        if name == bytes(4):  # zeros of an unwritten disk, maybe gigabytes
            return
        padding = length % 2 if size == 8 else 0
        yield Chunk(name, at + size, length, at + size + length + padding)
        at += size + length + padding


def _parse_extended(number: bytes) -> int:
    """Return the integer part of an 80-bit float, 0 if it is no plausible rate."""
    exponent, mantissa = struct.unpack(">HQ", number)
    shift = 16383 + 63 - exponent
    return mantissa >> shift if 0 <= shift < 64 else 0


def _codec_error(source: Source, name: str, codec: str) -> InputError:
    what = f"expected PCM of 16, 24 or 32 bits or float of 32 or 64, got {codec} in {name}"
    return source.error(what, TO_WAV)
