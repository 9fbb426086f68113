"""Construction of a synthetic machine from its traits, and the faults that change them.

Sections of a machine type share a housing and differ in their traits: teeth, blades, bearing resonances, rates, timing,
behaviour under load. A fault changes the same traits. The method needs this structure: a model that distinguishes the
sections has also learned the sounds that a fault changes. Real sections of a machine type are related in the same way.
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
    """Fault of a machine, and how far it moves each trait at severity 1, as a share of the trait's range."""

    name: str
    moves: Mapping[str, float]


@dataclass(frozen=True)
class SyntheticMachine:
    """Running machine: `speed_hz` turns or cycles a second, which drift by `wander` (a fraction) within a clip."""

    speed_hz: float
    wander: float
    snr_db: float
    housing_hz: tuple[float, ...]
    parts: tuple[Part, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Construction:
    """Traits of one specimen of a section, the same for every seed of a corpus.

    `moved` has the share of its range by which a fault moves each trait. `specimen` is the seed of a clip's deviations
    from its section's traits; None means no deviation.
    """

    machine: str
    section: int
    moved: Mapping[str, float] = field(default_factory=dict)
    specimen: int | None = None

    def shared(self, trait: str, low: float, high: float) -> float:
        """Return a trait in [low, high) that is the same for all sections of the machine type."""
        return low * (high / low) ** _fraction(self.machine, trait)

    def between(self, trait: str, low: float, high: float) -> float:
        """Return a trait of the section between `low` and `high`, on a logarithmic scale.

        A specimen's deviation may exceed the range a little.
        """
        return low * (high / low) ** self._position(trait)

    def linear(self, trait: str, low: float, high: float) -> float:
        """Return a trait of the section between `low` and `high`, on a linear scale."""
        return low + (high - low) * self._position(trait)

    def housing_hz(self) -> tuple[float, ...]:
        """Return the three resonances (Hz) of the housing, which is the same for all sections."""
        return (
            self.shared("housing low", 250, 700),
            self.shared("housing middle", 800, 2000),
            self.shared("housing high", 2300, 5500),
        )

    def _position(self, trait: str) -> float:
        """Return the position of a trait in its range, 0 to 1.

        Steps of the golden ratio keep any number of sections apart. A fault moves a trait within the range, towards the
        values of other sections.
        """
        position = (_fraction(self.machine, trait) + GOLDEN * self.section) % 1.0
        step = self.moved.get(trait, 0.0)
        position += step if 0.0 <= position + step < 1.0 else -step
        if self.specimen is None:
            return position
        rng = np.random.default_rng(_hash(self.specimen, trait))
        return position + SPECIMEN_SPREAD * float(rng.standard_normal())


def _fraction(*names: object) -> float:
    """Return a number in [0, 1) that depends only on the names."""
    return (_hash(*names) >> 224) / 2**32


def _hash(*names: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest())
