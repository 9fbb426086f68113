"""The command `listen`: a machine's state from its sound, as it comes."""

import argparse
import sys
from typing import Any

from asdjax.cli import console
from asdjax.cli.commands_deploy import add_detector, load_detector
from asdjax.cli.console import DONE
from asdjax.errors import InputError


def add_listen(commands: Any) -> None:
    """Add `asdjax listen`."""
    parser = console.add_command(
        commands, "listen", _listen, "tell a machine's state from its sound: normal, alarm or off, about every second"
    )
    parser.epilog = (
        "Sound comes from standard input, as WAV or raw samples (arecord -f S16_LE -r 16000 -t wav | asdjax listen "
        "...; ffmpeg -i rtsp://camera -f wav - | asdjax listen ...), from a folder that a recorder fills, or from a "
        "microphone. For other sampling rates and several channels: --config.data.on_mismatch=convert. Each score is "
        "of a window as long as a training clip; neighbouring windows share most of their sound."
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
    parser.add_argument("--channels", type=console.parse_count, default=1, metavar="N", help="of raw samples (1)")
    parser.add_argument(
        "--format", default="s16le", metavar="F", help="of raw samples: s16le (default), s24le, s32le, f32le or f64le"
    )
    parser.add_argument(
        "--alarm", default="3/5", metavar="N/M", help="N of M scores above the threshold begin an alarm (3/5)"
    )
    parser.add_argument("--smooth", type=console.parse_count, default=3, metavar="N", help="scores to average (3)")
    parser.add_argument(
        "--off-below", type=float, metavar="DB", help="level_db below which the machine is off (default: from training)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for every second")


def _listen(options: argparse.Namespace) -> int:
    from asdjax.cli.listen_output import show_clips, show_moments
    from asdjax.data.filled_folder import watch_folder
    from asdjax.data.microphone import Microphone
    from asdjax.data.sound_stream import SoundStream, make_raw_form

    if options.existing and not options.folder:
        raise InputError("--existing: expected with --folder, got it without; leave it out")
    if options.folder is None and options.microphone is None and sys.stdin.isatty():
        raise InputError(
            "standard input: expected sound, got a terminal; pipe it in (arecord -f S16_LE -r 16000 -t wav | asdjax "
            "listen ...), or give --folder or --microphone"
        )
    detector = load_detector(options)
    rules = {"alarm": options.alarm, "smooth": options.smooth}
    if options.folder:
        recordings = watch_folder(options.folder, also_present=options.existing)
        show_clips(detector, recordings, rules, options.json)
        return DONE
    if options.microphone is not None:
        blocks = Microphone(options.microphone or None, detector.decoding.sample_rate_hz)
    else:
        raw = make_raw_form(options.format, options.rate, options.channels) if options.rate else None
        blocks = SoundStream(sys.stdin.buffer, detector.decoding, raw, "standard input")
    show_moments(detector, blocks, rules | {"off_below_db": options.off_below}, options.json)
    return DONE
