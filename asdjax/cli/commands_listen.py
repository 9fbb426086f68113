"""The command `listen`: a machine's state from its sound, as it arrives."""

import argparse
import math
import sys
from typing import Any

from asdjax.cli import console
from asdjax.cli.commands_deploy import add_detector, load_detector
from asdjax.cli.console import DONE
from asdjax.errors import InputError

_ARECORD = "arecord -t raw -f S16_LE -r 16000 | asdjax listen --rate 16000 ..."


def add_listen(commands: Any) -> None:
    """Add `asdjax listen`."""
    parser = console.add_command(
        commands, "listen", _listen, "show a machine's state from its sound: normal, alarm or off, about every second"
    )
    parser.epilog = (
        f"Sound is read from standard input, as WAV or raw samples ({_ARECORD}; ffmpeg -i rtsp://camera -f wav - | "
        "asdjax listen ...), from a folder that a recorder fills, or from a microphone. For other sampling rates and "
        "several channels: --config.data.on_mismatch=convert. Each score is of a window as long as a training clip, so "
        "a fault is noticed some seconds late. Windows overlap: --false-alarms-per-day sets a threshold for separate "
        "clips. In --folder recordings should be written under another name and renamed; one is scored ten seconds "
        "after its last change. Ctrl-C ends it, with exit code 75."
    )
    add_detector(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--folder", type=console.parse_path, metavar="DIR", help="score each new recording in a folder")
    source.add_argument(
        "--microphone", nargs="?", const="", metavar="DEVICE", help="a name or number of `python -m sounddevice`"
    )
    parser.add_argument("--existing", action="store_true", help="with --folder: score what is there already, too")
    parser.add_argument(
        "--rate", type=console.parse_count, metavar="HZ", help="standard input is raw samples at this rate"
    )
    parser.add_argument("--channels", type=console.parse_count, metavar="N", help="of raw samples (default: 1)")
    parser.add_argument("--format", metavar="F", help="of raw samples: s16le (default), s24le, s32le, f32le or f64le")
    parser.add_argument(
        "--alarm", default="3/5", metavar="N/M", help="N of M scores above the threshold begin an alarm (default: 3/5)"
    )
    parser.add_argument(
        "--smooth", type=console.parse_count, default=3, metavar="N", help="scores to average (default: 3)"
    )
    parser.add_argument(
        "--off-below", type=float, metavar="DB", help="level_db below which the machine is off (default: from training)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for every score, not only for every change and minute"
    )


def _listen(options: argparse.Namespace) -> int:
    from asdjax.cli.listen_output import show_clips, show_moments
    from asdjax.data.filled_folder import watch_folder
    from asdjax.data.microphone import Microphone
    from asdjax.data.sound_stream import SoundStream, make_raw_form
    from asdjax.inference.alarm_rule import AlarmRule

    _require_fitting_flags(options)
    AlarmRule.parse(options.alarm, options.smooth)
    rules = {"alarm": options.alarm, "smooth": options.smooth}
    if options.folder:
        recordings = watch_folder(options.folder, also_present=options.existing)
        show_clips(load_detector(options), recordings, rules, options.json)
        return DONE
    rules["off_below_db"] = options.off_below
    if options.microphone is not None:
        detector = load_detector(options)
        blocks = Microphone(options.microphone or None, detector.decoding.sample_rate_hz)
    else:
        raw = make_raw_form(options.format or "s16le", options.rate, options.channels or 1) if options.rate else None
        stream = SoundStream(sys.stdin.buffer, raw, "standard input")  # reads ahead while the models are loaded
        detector = load_detector(options)
        blocks = stream.convert(detector.decoding)
    show_moments(detector, blocks, rules, options.json)
    return DONE


def _require_fitting_flags(options: argparse.Namespace) -> None:
    """Raise InputError for a flag that the source of the sound does not use, and for a terminal as the source."""
    from_stdin = options.folder is None and options.microphone is None
    unused = [
        ("--existing", options.existing and not options.folder, "with --folder"),
        ("--rate", options.rate and not from_stdin, "with sound on standard input"),
        ("--channels", options.channels and not options.rate, "with --rate"),
        ("--format", options.format and not options.rate, "with --rate"),
        ("--off-below", options.off_below is not None and options.folder, "with a stream"),
    ]
    for flag, is_unused, place in unused:
        if is_unused:
            raise InputError(f"{flag}: expected {place} only, got it without; leave it out")
    if options.off_below is not None and not math.isfinite(options.off_below):
        raise InputError(f"--off-below: expected a level in dB, got {options.off_below}; --json shows level_db")
    if from_stdin and sys.stdin.isatty():
        raise InputError(
            f"standard input: expected sound, got a terminal; pipe it in ({_ARECORD}), or give --folder or --microphone"
        )
