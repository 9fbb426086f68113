"""Ogg files with Vorbis or Opus (RFC 3533): checks of the pages; libsndfile decodes the samples."""

import itertools
import struct
import zlib

import numpy as np

from asdjax.data.formats.header import TO_WAV, AudioHeader, Encoding, Source
from asdjax.data.formats.libsndfile import CUT_OFF, REWRITE, decode_content, read_lossy_header

_CODECS: dict[bytes, Encoding] = {b"\x01vorbis": "vorbis", b"OpusHead": "opus"}
_OTHER_CODECS = {
    b"\x7fFLAC": "Ogg FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora video",
    b"fishead": "Ogg Skeleton",
}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_HEAD_BYTES = 27
_LAST_PAGE = 4


def read_ogg(source: Source) -> AudioHeader:
    """Read the header of Ogg Vorbis or Opus. Raises InputError if a page is missing or damaged."""
    content = source.read_audio()
    packet = _check_pages(source, content)
    encoding: Encoding | None = next((codec for mark, codec in _CODECS.items() if packet.startswith(mark)), None)
    if encoding is None:
        other = next((codec for mark, codec in _OTHER_CODECS.items() if packet.startswith(mark)), "an unknown codec")
        raise source.error(f"expected Vorbis or Opus in Ogg, got {other}", TO_WAV)
    return read_lossy_header(source, content, encoding, f"Ogg {encoding.capitalize()}")


def decode_ogg(source: Source, header: AudioHeader) -> np.ndarray:
    """Decode to float32, shape (s, c). Raises InputError if the samples are too few."""
    return decode_content(source, source.read_audio(), "float32", header.samples)


def _check_pages(source: Source, content: bytes) -> bytes:
    """Return the beginning of the first packet. Raise InputError unless all pages of one stream are there in order."""
    at, flags, packet, stream = 0, 0, b"", None
    for number in itertools.count():
        head, data, end = _read_page(source, content, at, number)
        flags = head[5]
        serial, page, _ = struct.unpack_from("<III", head, 14)
        packet = packet or content[data:end][:64]
        stream = serial if stream is None else stream
        if (serial, page) != (stream, number):
            raise source.error("damaged Ogg, or several streams: its pages are out of order", REWRITE)
        at = end
        if flags & _LAST_PAGE or at == len(content):
            break
    if not flags & _LAST_PAGE:
        raise source.error("truncated: its last page is missing", CUT_OFF)
    if content[at:].strip(b"\0"):
        raise source.error("expected one stream in an Ogg file, got several", REWRITE)
    return packet


def _read_page(source: Source, content: bytes, at: int, number: int) -> tuple[bytes, int, int]:
    """Return the head of the page at a byte, and where its data begins and ends. Raise InputError if it is damaged."""
    head = content[at : at + _HEAD_BYTES]
    table = content[at + _HEAD_BYTES : at + _HEAD_BYTES + (head[26] if len(head) == _HEAD_BYTES else 0)]
    data = at + _HEAD_BYTES + len(table)
    end = data + sum(table)
    if head[:5] != b"OggS\0" or len(head) < _HEAD_BYTES or len(table) < head[26] or end > len(content):
        raise source.error(f"truncated or damaged Ogg: its page {number + 1} is not whole", CUT_OFF)
    (crc,) = struct.unpack_from("<I", head, 22)
    if crc != _compute_crc(content[at : at + 22] + bytes(4) + content[at + 26 : end]):
        raise source.error(f"damaged Ogg: its page {number + 1} does not match its checksum", REWRITE)
    return head, data, end


def _compute_crc(page: bytes) -> int:
    """Return Ogg's CRC-32: zlib's polynomial with the bits in the opposite order, and without inversion."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
