"""MP3 files: checks of the frames; libsndfile decodes the samples."""

import struct
from typing import NamedTuple

import numpy as np

from asdjax.data.formats.header import COPY, AudioHeader, Source
from asdjax.data.formats.libsndfile import CUT_OFF, REWRITE, decode_content, read_lossy_header
from asdjax.data.formats.mpeg_frame import MpegFrame, read_mpeg_frame


class _CountedMp3(NamedTuple):
    """Content of an MP3 file whose first frame states the number of frames, that number, and their samples."""

    content: bytes
    frames: int
    samples: int


def read_mp3(source: Source) -> AudioHeader:
    """Read the header of MP3. Raises InputError unless it has whole frames only, as many as the first one states."""
    counted = _count_frames(source)
    header = read_lossy_header(source, counted.content, "mp3", "MP3")
    # A decoder drops the padding that an encoder adds at both ends: less than four frames.
    if not counted.samples - 4 * counted.samples // counted.frames <= header.samples <= counted.samples:
        raise source.error(
            f"damaged MP3: expected {counted.samples} samples or up to 4 frames fewer in {counted.frames} frames, got "
            f"{header.samples}",
            REWRITE,
        )
    return header


def decode_mp3(source: Source, header: AudioHeader) -> np.ndarray:
    """Decode to float32, shape (s, c). Raises InputError if the samples are too few."""
    return decode_content(source, _count_frames(source).content, "float32", header.samples)


def _count_frames(source: Source) -> _CountedMp3:
    """Count the frames, and add a first frame that states their number if the file lacks it.

    Without such a frame libsndfile only estimates the length, and stops there.
    """
    content = source.read_audio()
    first, frames = _walk_frames(source, content)
    stated = _read_stated_frames(content[: first.length], first)
    if stated is not None:
        frames -= 1
        if frames < stated:
            raise source.error(f"truncated: its header says {stated} frames, got {frames}", CUT_OFF)
    if not frames:
        raise source.error("holds a header and no samples", COPY)
    if stated != frames:
        sound = content if stated is None else content[first.length :]
        content = _make_info_frame(content[:4], first, frames) + sound
    return _CountedMp3(content, frames, frames * first.samples)


def _walk_frames(source: Source, content: bytes) -> tuple[MpegFrame, int]:
    """Return the first frame and the number of frames. Raise InputError if there is anything between frames."""
    at, frames, first = 0, 0, None
    while at < len(content):
        frame = read_mpeg_frame(content[at : at + 4])
        if frame is None and frames and not content[at:].strip(b"\0"):
            break
        if frame is None or (first and not _same_form(frame, first)):
            raise source.error(f"damaged MP3: expected its frame {frames + 1} at byte {at}, got other bytes", REWRITE)
        if at + frame.length > len(content):
            raise source.error(f"truncated: its frame {frames + 1} is not whole", CUT_OFF)
        first = first or frame
        at, frames = at + frame.length, frames + 1
    if first is None:
        raise source.error("damaged MP3: it has no frame", COPY)
    return first, frames


def _same_form(a: MpegFrame, b: MpegFrame) -> bool:
    return (a.layer, a.sample_rate_hz, a.mpeg1) == (b.layer, b.sample_rate_hz, b.mpeg1)


def _make_info_frame(head: bytes, frame: MpegFrame, frames: int) -> bytes:
    """Return a silent frame that states the number of frames. Its bit rate makes it long enough for that."""
    head = bytes([head[0], head[1] | 1, head[2] & 0x0F | 0x90, head[3]])
    info_frame = read_mpeg_frame(head)
    info = head + bytes(_side_info_bytes(frame)) + b"Info" + struct.pack(">II", 1, frames)
    return info.ljust(info_frame.length if info_frame else 0, b"\0")


def _side_info_bytes(frame: MpegFrame) -> int:
    """Return the length of the side information between a frame's header and its sound."""
    stereo = frame.channels == 2
    return (32 if stereo else 17) if frame.mpeg1 else 17 if stereo else 9


def _read_stated_frames(first: bytes, frame: MpegFrame) -> int | None:
    """Return the number of frames in a first frame's tag (Xing, Info, VBRI), None if the frame has sound instead."""
    tag = first[4 + _side_info_bytes(frame) :]
    if tag[:4] in (b"Xing", b"Info") and len(tag) >= 12:
        return int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
    if first[36:40] == b"VBRI" and len(first) >= 54:
        return int.from_bytes(first[50:54], "big")
    return None
