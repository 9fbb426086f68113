"""Chunks, of which RIFF, Wave64, AIFF and CAF consist: what follows the samples, and sizes that were left open."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from asdjax.data.formats.header import Caution, Source

LEFT_OPEN = Caution(
    "its header leaves open how long it is: read to the end of the file",
    "nothing to do if it is all there",
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: where its content begins, how long it says that is, and where the next chunk is, in bytes."""

    name: bytes
    at: int
    length: int
    next: int


#: Yields the chunks from a byte on, as their own lengths place them.
Walk = Callable[[Source, int], Iterator[Chunk]]


def only_chunks(source: Source, at: int, walk: Walk) -> bool:
    """Return whether what follows are whole chunks up to the file's end, or to tags there."""
    end = at
    for chunk in walk(source, at):
        if not all(32 <= byte < 127 for byte in chunk.name) or chunk.at + chunk.length > source.size:
            return False
        end = chunk.next
    return end > at and source.untagged_end() <= end + 1


def unread(source: Source, end: int, walk: Walk) -> list[Caution]:
    """Return a caution where bytes behind the samples belong to no chunk: a size that was never brought up to date."""
    behind = 0 if source.size == end else source.untagged_end() - end
    if behind < 8 or any(only_chunks(source, at, walk) for at in (end, end + 1)):
        return []
    return [left_out(behind)]


def left_out(count: int) -> Caution:
    """Return the caution for bytes that may be samples but that the header does not count."""
    what = f"what follows its samples ({count} B) is no chunk and is left out"
    return Caution(what, "look whether its header gives the right length")
