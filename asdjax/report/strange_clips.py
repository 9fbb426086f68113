"""Players of the training clips that sound strangest, which may be recordings of a fault."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.report import players, recordings
from asdjax.report.players import Player
from asdjax.report.report_inputs import ReportInputs


class StrangeCard(NamedTuple):
    """Texts and player of one training clip."""

    name: str
    place: str
    text: str
    player: Player


def make_cards(
    workdir: Path, inputs: ReportInputs, clips: Sequence[tuple[str, Mapping[str, Any]]], most: int
) -> list[StrangeCard]:
    """Return cards of clips, as `training_ranking.list_strangest` has them, with players of at most `most` samples.

    Raises InputError if the sound of a clip is no longer there.
    """
    rate, cards = inputs.config.signal.sample_rate_hz, []
    for machine, entry in clips:
        path = Path(entry["path"])
        bank = inputs.find_fleet(machine).statistics[machine].bank
        digests = {clip.path: sha256 for clip, sha256 in zip(bank.clips, bank.digests, strict=True)}
        samples = recordings.load_samples(workdir, inputs.config, machine, {path: digests[path]})[path]
        excerpt = players.choose_excerpt(len(samples), most, 0)
        cards.append(
            StrangeCard(
                "/".join(path.parts[-3:]),
                " · ".join(filter(None, (machine, f"section {entry['section']}", entry["domain"]))),
                f"Score {entry['score']:.4g} by {inputs.results['default_system']}, {entry['excess']:.1f} above the "
                "threshold in distances between the quartiles of its section's training scores.",
                players.make_player(samples, excerpt, rate, "this clip"),
            )
        )
    return cards
