"""A scored test clip: the common input of thresholds, metrics and submissions."""

from dataclasses import dataclass

from asdjax.data.clips import Domain, Label


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """A test clip with a system's score and decision, and its label and domain where they are known.

    `score` is finite; a higher score is more anomalous. `decision` is True for an anomaly and None without a decision.
    """

    name: str
    machine: str
    section: str
    domain: Domain | None
    label: Label | None
    score: float
    decision: bool | None
