"""What `asdjax listen` prints: a line for every recording of a folder, and for a stream a line a minute and for every
change, or with --json for every score.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from asdjax.api_detector import Detector
from asdjax.cli import console
from asdjax.cli.score_output import log_clip_error
from asdjax.data.sound_stream import Gap
from asdjax.errors import InputError
from asdjax.inference.alarm_rule import AlarmRule, AlarmState
from asdjax.inference.listener import Moment

#: Seconds of the stream after which people are shown a line, if nothing changes.
_QUIET_S = 60


#: What people read of a gap, by its kind.
_REMARKS = {"waiting": "no samples arrive", "gap": "samples are missing; a new window begins"}


def show_moments(
    detector: Detector, blocks: Iterable[np.ndarray | Gap], rules: Mapping[str, Any], as_json: bool
) -> None:
    """Print the states of a stream until it ends, or until nobody reads them."""
    shown = _Shown(as_json)
    for moment in detector.listen(_show_gaps(blocks, shown), **rules):
        if not shown.moment(moment):
            return


def _show_gaps(blocks: Iterable[np.ndarray | Gap], shown: "_Shown") -> Iterator[np.ndarray | Gap]:
    for block in blocks:
        if isinstance(block, Gap) and not shown.gap(block):
            return
        yield block


def show_clips(detector: Detector, recordings: Iterable[Path], rules: Mapping[str, Any], as_json: bool) -> None:
    """Print the score of each recording in a folder, and the state of the alarm, until nobody reads them."""
    alarm = AlarmState(AlarmRule.parse(**rules), detector.threshold)
    for path in recordings:
        try:
            result = detector.score(path)
        except InputError as error:
            log_clip_error("listen", str(path), error)
            continue
        if result.is_off:
            alarm.restart()
            state, smoothed = "off", None
        else:
            is_alarm, smoothed = alarm.update(result.score)
            state = "alarm" if is_alarm else "normal"
        row = {
            "time": _now(),
            "clip": str(path),
            "state": state,
            "score": result.score,
            "smoothed": smoothed,
            "threshold": result.threshold,
            "anomalous_seconds": [[round(begin, 3), round(end, 3)] for begin, end in result.anomalous_seconds],
        }
        line = f"{row['time']}  {state:<8}  {_format_score(smoothed, result.threshold)}  {path.name}"
        if not console.write(json.dumps(row) if as_json else line):
            return


class _Shown:
    """The lines of a stream, and what was shown last."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._state, self._shown_at = as_json, "", 0.0

    def moment(self, moment: Moment) -> bool:
        """Show a moment if its time has come; return False if nobody reads."""
        if self._as_json:
            return console.write(json.dumps({"time": _now(), **_round(moment)}))
        if moment.state == self._state and moment.seconds < self._shown_at + _QUIET_S:
            return True
        self._state, self._shown_at = moment.state, moment.seconds
        clock = f"{int(moment.seconds) // 3600:02}:{int(moment.seconds) // 60 % 60:02}:{moment.seconds % 60:04.1f}"
        score = _format_score(moment.smoothed, moment.threshold)
        return console.write(f"{_now()}  {clock}  {moment.state:<8}  {score}  {moment.level_db:>6.1f} dB")

    def gap(self, gap: Gap) -> bool:
        """Show that something is wrong with the stream; return False if nobody reads."""
        if self._as_json:
            return console.write(json.dumps({"time": _now(), "event": gap.kind, "seconds": round(gap.seconds, 2)}))
        return console.write(f"{_now()}  {_REMARKS[gap.kind]} ({gap.seconds:.1f} s)")


def _round(moment: Moment) -> dict[str, Any]:
    return {**asdict(moment), "seconds": round(moment.seconds, 3), "level_db": round(moment.level_db, 2)}


def _format_score(smoothed: float | None, threshold: float) -> str:
    text = "" if smoothed is None else f"{smoothed:>10.6f} (threshold {threshold:.6f})"
    return f"{text:<33}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
