"""The construction of a synthetic machine: its traits, the faults that move them, and the machine made of them.

Sections of a machine type share a housing and differ in their traits: teeth, blades, bearing resonances, rates,
timing, behaviour under load. A fault moves the same traits. This is the structure that the method needs: a model that
has learned to distinguish the sections has also learned the sounds that a fault changes. Real sections of one machine
type are related in the same way.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from asdjax.data.synthetic.components import Part

GOLDEN = 0.6180339887498949
#: Standard deviation of a trait over clips of one section, as a share of its range: wear, temperature, assembly.
SPECIMEN_SPREAD = 0.06


@dataclass(frozen=True)
class Fault:
    """A fault and the traits that it moves, each by a share of its range at severity 1."""

    name: str
    moves: Mapping[str, float]


@dataclass(frozen=True)
class SyntheticMachine:
    """A machine at work: `speed_hz` turns or cycles a second, which drift by `wander` (a fraction) within a clip."""

    speed_hz: float
    wander: float
    snr_db: float
    housing_hz: tuple[float, ...]
    parts: tuple[Part, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Construction:
    """The traits of one specimen of a section, the same for every corpus seed.

    `moved` gives the share of its range by which a fault has moved a trait. `specimen` names the random deviations of
    one clip's machine from its section's; None gives the section's own values.
    """

    machine: str
    section: int
    moved: Mapping[str, float] = field(default_factory=dict)
    specimen: int | None = None

    def shared(self, trait: str, low: float, high: float) -> float:
        """Return a trait in [low, high) that all sections of the machine type share."""
        return low * (high / low) ** _fraction(self.machine, trait)

    def between(self, trait: str, low: float, high: float) -> float:
        """Return a trait of the section, from `low` to `high` in even steps of its logarithm.

        A specimen's own deviation may lead a little beyond the range.
        """
        return low * (high / low) ** self._place(trait)

    def linear(self, trait: str, low: float, high: float) -> float:
        """Return a trait of the section, from `low` to `high` in even steps."""
        return low + (high - low) * self._place(trait)

    def housing_hz(self) -> tuple[float, ...]:
        """Return the three resonances (Hz) of the housing, which all sections of the machine type share."""
        return (
            self.shared("housing low", 250, 700),
            self.shared("housing middle", 800, 2000),
            self.shared("housing high", 2300, 5500),
        )

    def _place(self, trait: str) -> float:
        """Return the place of a trait in its range (0..1). Golden steps keep any number of sections well apart.

        A fault stays within the range: it moves a trait towards other sections, never out of their sight.
        """
        place = (_fraction(self.machine, trait) + GOLDEN * self.section) % 1.0
        step = self.moved.get(trait, 0.0)
        place += step if 0.0 <= place + step < 1.0 else -step
        if self.specimen is None:
            return place
        rng = np.random.default_rng(_integer(self.specimen, trait))
        return place + SPECIMEN_SPREAD * float(rng.standard_normal())


def _fraction(*names: object) -> float:
    """Return a number in [0, 1) that follows from names alone."""
    return (_integer(*names) >> 224) / 2**32


def _integer(*names: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest())
