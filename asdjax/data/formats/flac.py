"""FLAC files (RFC 9639): header, length and checksum; libsndfile decodes the samples."""

import hashlib

import numpy as np

from asdjax.data.formats.chunks import LEFT_OPEN
from asdjax.data.formats.header import COPY, TO_WAV, AudioHeader, Encoding, Source, require_plausible
from asdjax.data.formats.libsndfile import CUT_OFF, decode_content

_ENCODINGS: dict[int, Encoding] = {16: "pcm16", 24: "pcm24"}
_STREAMINFO_BYTES = 34


class _StreamInfo:
    """STREAMINFO block. `samples` is 0 if the length is left open; `md5` is of all samples."""

    def __init__(self, block: bytes) -> None:
        packed = int.from_bytes(block[10:18], "big")
        self.sample_rate_hz = packed >> 44
        self.channels = (packed >> 41 & 7) + 1
        self.bits = (packed >> 36 & 31) + 1
        self.samples = packed & (1 << 36) - 1
        self.block_size = int.from_bytes(block[2:4], "big")
        self.md5 = block[18:34]


def read_flac(source: Source) -> AudioHeader:
    """Read the header of FLAC with 16 or 24 bits. A length that it leaves open is read from the last frame."""
    info = _read_stream_info(source)
    if info.bits not in _ENCODINGS:
        raise source.error(f"expected FLAC of 16 or 24 bits, got {info.bits}", TO_WAV)
    return AudioHeader(
        format="FLAC",
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        samples=info.samples or _find_length(source, info),
        encoding=_ENCODINGS[info.bits],
        data_start=source.begin,
        cautions=() if info.samples else (LEFT_OPEN,),
    )


def decode_flac(source: Source, header: AudioHeader) -> np.ndarray:
    """Decode to shape (s, c): int16 for 16 bits, int32 for 24 bits (in the upper bytes).

    Raises InputError if the samples are too few or do not match the file's MD5.
    """
    info, content = _read_stream_info(source), bytearray(source.read_audio())
    if not info.samples:  # libsndfile cannot stop at the end without the length
        content[21] |= header.samples >> 32
        content[22:26] = (header.samples & 0xFFFFFFFF).to_bytes(4, "big")
    samples = decode_content(source, bytes(content), "int16" if info.bits == 16 else "int32", header.samples)
    if any(info.md5) and _compute_md5(samples) != info.md5:
        raise source.error("damaged: its samples do not match its checksum", COPY)
    return samples


def _read_stream_info(source: Source) -> _StreamInfo:
    head = source.read(source.begin, 8 + _STREAMINFO_BYTES)
    if len(head) < 8 + _STREAMINFO_BYTES or head[4] & 0x7F or int.from_bytes(head[5:8], "big") != _STREAMINFO_BYTES:
        raise source.error("truncated or damaged FLAC: it lacks its STREAMINFO", COPY)
    info = _StreamInfo(head[8:])
    require_plausible(source, info.channels, info.sample_rate_hz)
    return info


def _compute_md5(samples: np.ndarray) -> bytes:
    plain = samples.astype(f"<i{samples.dtype.itemsize}", copy=False)
    if samples.dtype.itemsize == 4:  # 24 bits in the upper bytes
        plain = np.ascontiguousarray(plain).view("u1").reshape(-1, 4)[:, 1:]
    return hashlib.md5(np.ascontiguousarray(plain), usedforsecurity=False).digest()


def _find_length(source: Source, info: _StreamInfo) -> int:
    """Return the number of samples up to the end of the last frame, which must end where the file ends."""
    content = source.read_audio()
    at = len(content)
    for _ in range(64):  # sync codes also occur within frames
        at = max(content.rfind(b"\xff\xf8", 0, at), content.rfind(b"\xff\xf9", 0, at))
        if at < 0 or len(content) - at > 2**20:
            break
        if _crc_16(content[at:]) == 0:  # a frame followed by its own CRC has a CRC of 0
            return _parse_frame_end(content[at : at + 16], info.block_size)
    raise source.error("truncated: its last frame is not whole", CUT_OFF)


def _parse_frame_end(head: bytes, block_size: int) -> int:
    """Return the number of samples up to the end of a frame by its header (RFC 9639, section 9.1)."""
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # the frame's number is coded like a character in UTF-8
    more = max(ones - 1, 0)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    code, extra = head[2] >> 4, head[5 + more : 7 + more]
    if code in (6, 7):
        size = 1 + (extra[0] if code == 6 else int.from_bytes(extra, "big"))
    else:
        size = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    return (number if head[1] & 1 else number * block_size) + size


def _crc_16(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = (crc << 8 & 0xFFFF) ^ _CRC_16[crc >> 8 ^ byte]
    return crc


def _crc_16_of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
    return crc & 0xFFFF


_CRC_16 = [_crc_16_of_byte(byte) for byte in range(256)]
