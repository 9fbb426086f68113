"""FLAC, Ogg (Vorbis, Opus) and MP3: headers, whether the file is whole, and samples by libsndfile.

libsndfile returns what it can of a file that was cut off. So a file is first held against what its own frames and
pages say, and the decoded samples against their number, and with FLAC against their MD5.
"""

import hashlib
import io
import itertools
import struct
import zlib
from typing import Any, Literal

import numpy as np

from asdjax.data.formats.chunks import LEFT_OPEN
from asdjax.data.formats.header import COPY, TO_WAV, AudioHeader, Caution, Encoding, Source, require_plausible
from asdjax.data.formats.kinds import MpegFrame, mpeg_frame
from asdjax.errors import InputError

_BLOCK = 2**20  # frames decoded at once: a damaged header may promise any number of them
_CUT_OFF = "copy it again, or where this is all there is, write a new file of it: ffmpeg -i FILE NEW.wav"
_REWRITE = "copy it again, or write it as a new file: ffmpeg -i FILE NEW.wav"
_FLAC_BITS: dict[int, Encoding] = {16: "pcm16", 24: "pcm24"}
_STREAMINFO = 34
_OGG_CODECS: dict[bytes, Encoding] = {b"\x01vorbis": "vorbis", b"OpusHead": "opus"}
_OTHER_OGG = {b"\x7fFLAC": "Ogg FLAC", b"Speex   ": "Speex", b"\x80theora": "Theora video", b"fishead": "Ogg Skeleton"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def lossy_caution(name: str) -> Caution:
    """Return what lossy compression costs, as a caution."""
    what = f"{name} is lossy: it leaves out quiet and high sounds, in which faults may show, and adds its own"
    return Caution(what, "record as WAV or FLAC where you can")


def read_flac(source: Source) -> AudioHeader:
    """Read the header of FLAC of 16 or 24 bits; where that leaves the length open, the last frame has it."""
    info = _streaminfo(source)
    if info.bits not in _FLAC_BITS:
        raise source.refusal(f"expected FLAC of 16 or 24 bits, got {info.bits}", TO_WAV)
    return AudioHeader(
        format="FLAC",
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        samples=info.samples or _end_of_last_frame(source, info),
        encoding=_FLAC_BITS[info.bits],
        data_start=source.begin,
        cautions=() if info.samples else (LEFT_OPEN,),
    )


def read_ogg(source: Source) -> AudioHeader:
    """Read the header of Ogg Vorbis or Opus, every page of which must be there and undamaged."""
    content = source.content()
    first = _walk_pages(source, content)
    encoding: Encoding | None = next((codec for mark, codec in _OGG_CODECS.items() if first.startswith(mark)), None)
    if encoding is None:
        other = next((codec for mark, codec in _OTHER_OGG.items() if first.startswith(mark)), "an unknown codec")
        raise source.refusal(f"expected Vorbis or Opus in Ogg, got {other}", TO_WAV)
    return _by_libsndfile(source, content, encoding, f"Ogg {encoding.capitalize()}")


def read_mp3(source: Source) -> AudioHeader:
    """Read the header of MP3, which must consist of whole frames, as many as its first one says."""
    content, frames, samples = _counted_mp3(source)
    header = _by_libsndfile(source, content, "mp3", "MP3")
    # a decoder leaves out what an encoder has put before and behind: less than four frames
    if not samples - 4 * samples // frames <= header.samples <= samples:
        raise source.refusal(f"damaged MP3: {frames} frames, but {header.samples} samples", _REWRITE)
    return header


def decoded(source: Source, header: AudioHeader) -> np.ndarray:
    """Return samples (s, c): int16 for FLAC of 16 bits, int32 of 24 (in the upper bytes), else float32."""
    if header.format == "FLAC":
        return _decode_flac(source, header)
    content = _counted_mp3(source)[0] if header.encoding == "mp3" else source.content()
    samples = _decode(source, content, "float32")
    if len(samples) != header.samples:
        raise _short(source, header.samples, len(samples))
    return samples


class _StreamInfo:
    """FLAC's STREAMINFO (RFC 9639); `samples` is 0 where its length is left open, `md5` is of all samples."""

    def __init__(self, block: bytes) -> None:
        packed = int.from_bytes(block[10:18], "big")
        self.sample_rate_hz = packed >> 44
        self.channels = (packed >> 41 & 7) + 1
        self.bits = (packed >> 36 & 31) + 1
        self.samples = packed & (1 << 36) - 1
        self.block_size = int.from_bytes(block[2:4], "big")
        self.md5 = block[18:34]


def _streaminfo(source: Source) -> _StreamInfo:
    head = source.read(source.begin, 8 + _STREAMINFO)
    if len(head) < 8 + _STREAMINFO or head[4] & 0x7F or head[5:8] != _STREAMINFO.to_bytes(3, "big"):
        raise source.refusal("truncated or damaged FLAC: it lacks its STREAMINFO", COPY)
    info = _StreamInfo(head[8:])
    require_plausible(source, info.channels, info.sample_rate_hz)
    return info


def _decode_flac(source: Source, header: AudioHeader) -> np.ndarray:
    info, content = _streaminfo(source), bytearray(source.content())
    if not info.samples:  # without its length libsndfile cannot stop at the end
        content[21] |= header.samples >> 32
        content[22:26] = (header.samples & 0xFFFFFFFF).to_bytes(4, "big")
    samples = _decode(source, bytes(content), "int16" if info.bits == 16 else "int32")
    if len(samples) != header.samples:
        raise _short(source, header.samples, len(samples))
    if any(info.md5) and _md5(samples) != info.md5:
        raise source.refusal("damaged: its samples are not those that its checksum was made of", COPY)
    return samples


def _md5(samples: np.ndarray) -> bytes:
    plain = samples.astype(f"<i{samples.dtype.itemsize}", copy=False)
    if samples.dtype.itemsize == 4:  # 24 bits in the upper bytes
        plain = np.ascontiguousarray(plain).view("u1").reshape(-1, 4)[:, 1:]
    return hashlib.md5(np.ascontiguousarray(plain), usedforsecurity=False).digest()


def _end_of_last_frame(source: Source, info: _StreamInfo) -> int:
    """Return the number of samples up to the end of the last frame, which must end where the file does."""
    content = source.content()
    at = len(content)
    for _ in range(64):  # sync codes occur within frames too
        at = max(content.rfind(b"\xff\xf8", 0, at), content.rfind(b"\xff\xf9", 0, at))
        if at < 0 or len(content) - at > 2**20:
            break
        if _crc_16(content[at:]) == 0:  # over a frame and its checksum
            return _frame_end(content[at : at + 16], info.block_size)
    raise source.refusal("truncated: its last frame is not whole", _CUT_OFF)


def _frame_end(head: bytes, block_size: int) -> int:
    """Return the number of the sample behind a frame, by its number and size (RFC 9639, section 9.1)."""
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # the number is coded as UTF-8 codes a character
    more = max(ones - 1, 0)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    code, behind = head[2] >> 4, head[5 + more : 7 + more]
    if code in (6, 7):
        size = 1 + (behind[0] if code == 6 else int.from_bytes(behind, "big"))
    else:
        size = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    return (number if head[1] & 1 else number * block_size) + size


def _crc_16(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = (crc << 8 & 0xFFFF) ^ _CRC_16[crc >> 8 ^ byte]
    return crc


def _crc_16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
    return crc & 0xFFFF


_CRC_16 = [_crc_16_of(byte) for byte in range(256)]


def _walk_pages(source: Source, content: bytes) -> bytes:
    """Return the begin of the first packet of an Ogg file whose pages follow each other, whole, from first to last."""
    at, flags, first, serial = 0, 0, b"", None
    for number in itertools.count():
        head = content[at : at + 27]
        table = content[at + 27 : at + 27 + (head[26] if len(head) == 27 else 0)]
        end = at + 27 + len(table) + sum(table)
        if head[:5] != b"OggS\0" or len(head) < 27 or len(table) < head[26] or end > len(content):
            raise source.refusal(f"truncated or damaged Ogg: its page {number + 1} is not whole", _CUT_OFF)
        flags = head[5]
        of_stream, page, crc = struct.unpack_from("<III", head, 14)
        if crc != _ogg_crc(content[at : at + 22] + bytes(4) + content[at + 26 : end]):
            raise source.refusal(f"damaged Ogg: its page {number + 1} does not fit its checksum", _REWRITE)
        first = first or content[at + 27 + len(table) : end][:64]
        serial = of_stream if serial is None else serial
        if (of_stream, page) != (serial, number):
            raise source.refusal("damaged Ogg, or several streams: its pages do not follow each other", _REWRITE)
        at = end
        if flags & 4 or at == len(content):
            break
    if not flags & 4:
        raise source.refusal("truncated: its last page is missing", _CUT_OFF)
    if content[at:].strip(b"\0"):
        raise source.refusal("several streams in one Ogg file", _REWRITE)
    return first


def _ogg_crc(page: bytes) -> int:
    """Return Ogg's CRC-32, which takes bits the other way round than zlib's and inverts none."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _counted_mp3(source: Source) -> tuple[bytes, int, int]:
    """Return an MP3 file whose first frame has the number of frames, that number, and how many samples they make.

    Without such a frame libsndfile only estimates the length, and decodes no further.
    """
    content = source.content()
    first, frames = _walk_frames(source, content)
    promised = _promised(content[: first.length], first)
    if promised is not None:
        frames -= 1
        if frames < promised:
            raise source.refusal(f"truncated: its header says {promised} frames, the file holds {frames}", _CUT_OFF)
    if not frames:
        raise source.refusal("holds a header and no samples", COPY)
    if promised != frames:
        sound = content if promised is None else content[first.length :]
        content = _info_frame(content[:4], first, frames) + sound
    return content, frames, frames * first.samples


def _walk_frames(source: Source, content: bytes) -> tuple[MpegFrame, int]:
    """Return the first frame of an MP3 file and how many there are; each must follow the one before it."""
    at, frames, first = 0, 0, None
    while at < len(content):
        found = mpeg_frame(content[at : at + 4])
        if found is None and frames and not content[at:].strip(b"\0"):
            break
        if found is None or (first and _form(found) != _form(first)):
            raise source.refusal(f"damaged MP3: no frame where its frame {frames + 1} should be", _REWRITE)
        if at + found.length > len(content):
            raise source.refusal(f"truncated: its frame {frames + 1} is not whole", _CUT_OFF)
        first = first or found
        at, frames = at + found.length, frames + 1
    if first is None:
        raise source.refusal("damaged MP3: it has no frame", COPY)
    return first, frames


def _info_frame(head: bytes, frame: MpegFrame, frames: int) -> bytes:
    """Return a frame without sound that says how many others there are, of a bit rate that leaves space for it."""
    head = bytes([head[0], head[1] | 1, head[2] & 0x0F | 0x90, head[3]])
    own = mpeg_frame(head)
    info = head + bytes(_side_bytes(frame)) + b"Info" + struct.pack(">II", 1, frames)
    return info.ljust(own.length if own else 0, b"\0")


def _side_bytes(frame: MpegFrame) -> int:
    """Return the length of the side information between a frame's header and its sound."""
    stereo = frame.channels == 2
    return (32 if stereo else 17) if frame.mpeg1 else 17 if stereo else 9


def _form(frame: MpegFrame) -> tuple[int, int, bool]:
    return frame.layer, frame.sample_rate_hz, frame.mpeg1


def _promised(first: bytes, frame: MpegFrame) -> int | None:
    """Return how many frames the first one (Xing, Info, VBRI) says that there are, None where it holds sound."""
    tag = first[4 + _side_bytes(frame) :]
    if tag[:4] in (b"Xing", b"Info") and len(tag) >= 12:
        return int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
    if first[36:40] == b"VBRI" and len(first) >= 54:
        return int.from_bytes(first[50:54], "big")
    return None


def _by_libsndfile(source: Source, content: bytes, encoding: Encoding, name: str) -> AudioHeader:
    with _opened(source, content) as sound:
        rate_hz, channels, samples = sound.samplerate, sound.channels, sound.frames
    require_plausible(source, channels, rate_hz)
    if not 0 < samples < 2**40:
        raise source.refusal("holds a header and no samples", COPY)
    return AudioHeader(
        format=name,
        sample_rate_hz=rate_hz,
        channels=channels,
        samples=samples,
        encoding=encoding,
        data_start=source.begin,
        cautions=(lossy_caution(name),),
    )


def _decode(source: Source, content: bytes, dtype: Literal["int16", "int32", "float32"]) -> np.ndarray:
    import soundfile

    with _opened(source, content) as sound:
        blocks = []
        try:
            while len(block := sound.read(_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
        except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
            raise _undecodable(source, error) from error
    return np.concatenate(blocks) if blocks else np.empty((0, 1), dtype)


def _opened(source: Source, content: bytes) -> Any:
    import soundfile  # late: most corpora never need it, and it takes a while to load

    try:
        return soundfile.SoundFile(io.BytesIO(content))
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        raise _undecodable(source, error) from error


def _undecodable(source: Source, error: Exception) -> InputError:
    reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
    return source.refusal(f"truncated or damaged: cannot be decoded ({reason})", _CUT_OFF)


def _short(source: Source, expected: int, got: int) -> InputError:
    return source.refusal(f"truncated or damaged: its header says {expected} samples, {got} can be decoded", _CUT_OFF)
