"""`asdjax score`: one output line per clip, as soon as it is scored."""

import codecs
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from asdjax.errors import InputError
from asdjax.inference.detector import ClipResult
from asdjax.runtime.paths import resolve_path
from asdjax.runtime.progress import log

STDIN = "-"

# A row of the table for people; `score_all` prints a header with the same columns.
_LINE = "{decision:<7}  {score:>10.6f}  {seconds:<23}  {clip}"
_SECONDS = "seconds above threshold"


def score_all(
    score: Callable[[Path], ClipResult], clips: Iterable[str], as_json: bool, show: Callable[[str], bool]
) -> int:
    """Score recordings, given by path, and show a line for each, until `show` returns False.

    A clip that cannot be scored is logged. Returns the number of these.
    """
    failed, head_due = 0, not as_json
    for clip in clips:
        try:
            result = score(resolve_path(clip))
        except InputError as error:
            failed += 1
            log_clip_error("score", clip, error)
            continue
        if head_due and not show(_format_head(result.threshold)):
            break
        head_due = False
        if not show(_format_json(clip, result) if as_json else _format_line(clip, result)):
            break
    return failed


def log_clip_error(command: str, clip: str, error: InputError) -> None:
    """Log why a command cannot score a clip."""
    name = "" if clip in str(error) else f"{clip}: "
    log(f"asdjax {command}: {name}{error}")


def from_stdin(words: Iterable[str]) -> Iterator[str]:
    """Yield the given paths, and in the place of `-` the paths on standard input, one per line, as they arrive.

    Paths are bytes to the system: neither the locale nor PYTHONIOENCODING decodes them. Thus a name in another encoding
    does not stop the others. Paths separated by NUL (find -print0) are all read before the first is yielded.
    """
    for word in words:
        if word == STDIN:
            paths = filter(None, map(os.fsdecode, _read_records()))
            if (first := next(paths, None)) is None:
                log("standard input: no path in it, so no clip is scored")
            else:
                yield first
            yield from paths
        else:
            yield word


def _read_records() -> Iterator[bytes]:
    """Yield the records of standard input without byte-order mark and line ends."""
    stream: Iterable[str | bytes] = getattr(sys.stdin, "buffer", sys.stdin)
    lines = (os.fsencode(line) if isinstance(line, str) else line for line in stream)
    first = next(lines, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("standard input: expected paths in UTF-8, got UTF-16; convert them with iconv -f UTF-16")
    first = first.removeprefix(codecs.BOM_UTF8)
    if b"\0" in first:
        yield from b"".join((first, *lines)).split(b"\0")
    else:
        yield first.rstrip(b"\r\n")
        yield from (line.rstrip(b"\r\n") for line in lines)


def _format_head(threshold: float) -> str:
    return f"{'':7}  {'score':>10}  {_SECONDS}  clip (anomaly: score > {threshold:.6f})"


def _format_line(clip: str, result: ClipResult) -> str:
    seconds = ", ".join(f"{begin:.1f}-{end:.1f}" for begin, end in result.anomalous_seconds) or "-"
    seconds = textwrap.shorten(seconds, len(_SECONDS), placeholder=" …")
    return _LINE.format(decision=_decision(result), score=result.score, seconds=seconds, clip=clip)


def _format_json(clip: str, result: ClipResult) -> str:
    return json.dumps(
        {
            "clip": clip,
            "score": result.score,
            "threshold": result.threshold,
            "decision": _decision(result),
            "anomalous_seconds": [[round(begin, 3), round(end, 3)] for begin, end in result.anomalous_seconds],
        }
    )


def _decision(result: ClipResult) -> str:
    return "anomaly" if result.is_anomaly else "normal"
