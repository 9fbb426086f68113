"""The command `accept`: clips that a person found normal join the bank, without training."""

import argparse
from typing import TYPE_CHECKING, Any

from asdjax.cli import console
from asdjax.cli.commands_deploy import add_detector, load_detector
from asdjax.cli.console import DONE
from asdjax.errors import InputError

if TYPE_CHECKING:
    from asdjax.inference.acceptance import Acceptance


def add_accept(commands: Any) -> None:
    """Add `asdjax accept`."""
    parser = console.add_command(
        commands, "accept", _accept, "add clips that were found normal in service to the bank, without training"
    )
    parser.epilog = (
        "The clips are kept in W/feedback/, with a journal. score, listen and export use them at once, asdjax evaluate "
        "when it is run next; no checkpoint and no file of the evaluation changes. Without --domain they are of the "
        "source domain."
    )
    parser.add_argument("clips", nargs="*", metavar="CLIP", help="normal recordings; - reads paths from standard input")
    add_detector(parser, required=False)
    parser.add_argument("--undo", action="store_true", help="undo the newest acceptance of the work directory")


def _accept(options: argparse.Namespace) -> int:
    from asdjax.api import undo_accept
    from asdjax.cli.score_output import from_stdin

    if options.undo:
        if options.clips:
            raise InputError(f"--undo: expected no clips, got {options.clips[0]}; leave one of them out")
        for flag in ("machine", "section", "domain", "system"):
            if getattr(options, flag) is not None:
                raise InputError(
                    f"--{flag}: expected none with --undo, which undoes the newest acceptance; leave it out"
                )
        undone = undo_accept(options.workdir)
        number = len(undone.clips)
        console.write(f"{undone.machine} {undone.section}: the acceptance of {_count(number)} is undone")
        return DONE
    if options.machine is None:
        raise InputError("--machine: expected a machine type, got none; give it")
    clips = list(from_stdin(options.clips))
    if not clips:
        raise InputError("CLIP: expected recordings that were found normal, got none; name them, or give --undo")
    acceptance = load_detector(options).accept(clips)
    console.write(_describe(acceptance, options.workdir))
    return DONE


def _describe(acceptance: "Acceptance", workdir: Any) -> str:
    judgement, before, after = acceptance
    place = " ".join(filter(None, (judgement.machine, judgement.section, judgement.domain)))
    lines = [
        f"{place}: {_count(len(judgement.clips))} accepted; above the threshold were {before.alarms}, are "
        f"{after.alarms}",
        f"threshold {before.threshold.value:.6f} before, {after.threshold.value:.6f} from {after.threshold.clips} "
        "training scores now",
        f"undo it by: asdjax accept --workdir {workdir} --undo",
    ]
    return "\n".join(lines)


def _count(clips: int) -> str:
    return "1 clip" if clips == 1 else f"{clips} clips"
