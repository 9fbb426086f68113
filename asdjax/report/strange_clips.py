"""Players of the training clips that sound strangest, which may be recordings of a fault."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.data import store
from asdjax.data.access import store_folder
from asdjax.report import players
from asdjax.report.players import Player
from asdjax.report.report_inputs import ReportInputs


class StrangeClip(NamedTuple):
    """A training clip: its machine type, and its entry in results.json."""

    machine: str
    entry: Mapping[str, Any]


class StrangeCard(NamedTuple):
    """Texts and player of one training clip."""

    name: str
    place: str
    text: str
    player: Player


def choose(inputs: ReportInputs, number: int) -> list[StrangeClip]:
    """Return up to `number` training clips above their thresholds, the strangest of all machine types first."""
    clips = [
        StrangeClip(machine, entry)
        for machine, entries in inputs.results["training_clips"].items()
        for entry in entries
        if entry["excess"] > 0
    ]
    return sorted(clips, key=lambda clip: -clip.entry["excess"])[:number]


def make_cards(workdir: Path, inputs: ReportInputs, clips: Sequence[StrangeClip], most: int) -> list[StrangeCard]:
    """Return cards with players of at most `most` samples each.

    Raises InputError if the sound of a clip is no longer there.
    """
    folder, rate = store_folder(inputs.config, workdir), inputs.config.signal.sample_rate_hz
    cards = []
    for machine, entry in clips:
        path = Path(entry["path"])
        bank = inputs.find_fleet(machine).statistics[machine].bank
        digests = {clip.path: sha256 for clip, sha256 in zip(bank.clips, bank.digests, strict=True)}
        samples = store.load_samples(folder, machine, {path: digests[path]})[path]
        excerpt = players.choose_excerpt(len(samples), most, 0)
        cards.append(
            StrangeCard(
                "/".join(path.parts[-3:]),
                " · ".join(filter(None, (machine, f"section {entry['section']}", entry["domain"]))),
                f"Score {entry['score']:.4g}, {entry['excess']:.1f} above the threshold in distances between the "
                "quartiles of its section's training scores.",
                players.make_player(samples, excerpt, rate, "this clip"),
            )
        )
    return cards
