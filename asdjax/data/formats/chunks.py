"""Chunks, the parts of RIFF, Wave64, AIFF and CAF files: checks of the bytes after the samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from asdjax.data.formats.header import Caution, Source

LEFT_OPEN = Caution(
    "its header leaves open how long it is: read to the end of the file",
    "nothing to do if it is complete",
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Chunk of a file: its name, the first byte and the claimed length of its content, and the next chunk's byte."""

    name: bytes
    at: int
    length: int
    next: int


# names of the chunks that hold samples
_SAMPLES = (b"data", b"SSND")

#: Function that yields the chunks from a byte on, each placed by the length of the one before it.
Walk = Callable[[Source, int], Iterator[Chunk]]


def has_only_chunks(source: Source, at: int, walk: Walk) -> bool:
    """Return whether the file has whole chunks from byte `at` up to its end or to the tags there."""
    end = at
    for chunk in walk(source, at):
        if not all(32 <= byte < 127 for byte in chunk.name) or chunk.at + chunk.length > source.size:
            return False
        end = chunk.next
    return end > at and source.untagged_end() <= end + 1


def find_unread(source: Source, end: int, walk: Walk) -> list[Caution]:
    """Return a caution if the bytes from `end` on are no chunks, or are chunks with further samples.

    The former follow a size that a recorder did not update.
    """
    count = 0 if source.size == end else source.untagged_end() - end
    if count < 8:
        return []
    start = next((at for at in (end, end + 1) if has_only_chunks(source, at, walk)), None)
    if start is None:
        return [unread_caution(count)]
    further = sum(chunk.length for chunk in walk(source, start) if chunk.name in _SAMPLES)
    if not further:
        return []
    return [Caution(f"a second chunk of samples ({further} B) is left out", "export it as one recording")]


def unread_caution(count: int) -> Caution:
    """Return the caution for bytes after the samples that may be samples, too, but are not in the header's length."""
    what = f"the {count} B after its samples are no chunk and are left out"
    return Caution(what, "check whether its header gives the right length")
