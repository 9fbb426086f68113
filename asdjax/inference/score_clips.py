"""`asdjax score`: new clips, one line each, as they come."""

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.access import make_decoding
from asdjax.data.audio import decode, read_header
from asdjax.errors import InputError
from asdjax.inference.detector import ClipResult, Detector
from asdjax.runtime.paths import given
from asdjax.runtime.progress import log

STDIN = "-"

_LINE = "{decision:<7}  {score:>10.6f}  {seconds:<23}  {clip}"
"""Of the table; a header explains it."""


def score_all(
    config: Config, detector: Detector, clips: Iterable[str], as_json: bool, show: Callable[[str], bool]
) -> int:
    """Score recordings, given by path, and show a line for each, until `show` returns False.

    Returns how many could not be scored; each of these is named on standard error.
    """
    head = f"{'':7}  {'score':>10}  {'anomalous seconds':<23}  clip (anomaly: score > {detector.threshold.value:.6f})"
    failed, head_due = 0, not as_json
    for clip in clips:
        try:
            verdict = detector.judge(_decoded(config, detector, given(clip)))
        except InputError as error:
            failed += 1
            named = "" if clip in str(error) else f"{clip}: "
            log(f"asdjax score: {named}{error}")
            continue
        if head_due and not show(head):
            break
        head_due = False
        if not show(_as_json(clip, verdict) if as_json else _as_line(clip, verdict)):
            break
    return failed


def from_stdin(words: Iterable[str]) -> Iterator[str]:
    """Yield the clips named, and in the place of `-` those on standard input, a path a line, as they come.

    Paths are bytes to the system: they are taken as they are, whatever encoding the locale or PYTHONIOENCODING has, so
    that one in another encoding costs no other its score. Where NUL parts them (find -print0) they are read to the end
    first.
    """
    for word in words:
        if word == STDIN:
            yield from filter(None, map(os.fsdecode, _records()))
        else:
            yield word


def _records() -> Iterator[bytes]:
    """Yield the records of standard input without a byte-order mark and line ends."""
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


def _decoded(config: Config, detector: Detector, clip: Path) -> np.ndarray:
    """Decode a clip that has a piece to samples int16 (s,), and say what is odd about its file."""
    samples = decode(clip, make_decoding(config))
    for caution in read_header(clip).cautions:
        log(f"asdjax score: {clip}: warning: {caution}")
    least = detector.spectrogram.least_samples
    if len(samples) < least:
        rate = detector.spectrogram.sample_rate_hz
        raise InputError(
            f"{clip}: expected {least / rate:.2f} s or more, a piece's length, got {len(samples) / rate:.2f} s; give a "
            "longer recording"
        )
    return samples


def _as_line(clip: str, verdict: ClipResult) -> str:
    seconds = ", ".join(f"{begin:.1f}-{end:.1f}" for begin, end in verdict.seconds) or "-"
    decision = "anomaly" if verdict.anomalous else "normal"
    return _LINE.format(decision=decision, score=verdict.score, seconds=seconds, clip=clip)


def _as_json(clip: str, verdict: ClipResult) -> str:
    return json.dumps(
        {
            "clip": clip,
            "score": verdict.score,
            "threshold": verdict.threshold,
            "decision": "anomaly" if verdict.anomalous else "normal",
            "anomalous_seconds": [[round(begin, 3), round(end, 3)] for begin, end in verdict.seconds],
        }
    )
