"""The seven machine types of DCASE 2021 as tables of parts and faults.

A table is a function of the section: sections are products of the same kind that differ in construction
(blades, teeth, resonances, timing), and the ranges in `section.between` and `section.count` say how far. The
numbers are ours, of a plausible size; they model no particular product. Their levels were set so that a plain
detector (the distance of a clip's mean log-spectrum to the nearest of its section's training clips) gets an official
score of 60 to 70 % on every machine type, as real data give.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from asdjax.corpus.parts import Flow, Impacts, Part, Stroke, Sweep, Tones

GOLDEN = 0.6180339887498949
FAINTEST_DB = -15.0  # a fault of severity 0 lies this far below the same fault of severity 1


@dataclass(frozen=True)
class Fault:
    """What breaks: parts that are heard in addition, and parts (by name) that grow louder or fainter by so many dB."""

    name: str
    adds: tuple[Part, ...] = ()
    changes_db: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """One product: `speed_hz` turns (or cycles) a second, drifting by `wander` (a fraction) within a clip."""

    speed_hz: float
    wander: float
    snr_db: float
    housing_hz: tuple[float, ...]
    parts: tuple[Part, ...]
    faults: tuple[Fault, ...]

    def broken(self, fault: Fault, severity: float) -> "Machine":
        """The machine with a fault of severity 0 (barely audible) to 1 (plain)."""
        fainter_db = (1.0 - severity) * FAINTEST_DB
        added = [replace(part, level_db=part.level_db + fainter_db) for part in fault.adds]
        change_db = {part.name: severity * fault.changes_db.get(part.name, 0.0) for part in self.parts}
        changed = [replace(part, level_db=part.level_db + change_db[part.name]) for part in self.parts]
        return replace(self, parts=(*changed, *added))


@dataclass(frozen=True)
class Section:
    """Chooses a section's construction, the same for every seed: sections are products, seeds are recordings."""

    machine: str
    number: int

    def place(self, trait: str) -> float:
        """Where in its range (0..1) a trait lies: golden steps keep any number of sections well apart."""
        digest = hashlib.sha256(f"{self.machine}/{trait}".encode()).digest()
        return (int.from_bytes(digest[:4]) / 2**32 + GOLDEN * self.number) % 1.0

    def between(self, trait: str, low: float, high: float) -> float:
        """A value of the trait in [low, high), even in its logarithm."""
        return low * (high / low) ** self.place(trait)

    def count(self, trait: str, low: int, high: int) -> int:
        """A whole number in low..high: teeth, blades, magnets."""
        return low + int((high - low + 1) * self.place(trait))

    def housing_hz(self) -> tuple[float, ...]:
        """Three resonances: what a housing does to all that it holds tells sections apart in any piece."""
        return (
            self.between("housing low", 250, 700),
            self.between("housing middle", 800, 2000),
            self.between("housing high", 2300, 5500),
        )


def fan(section: Section) -> Machine:
    """The fan that a section number stands for: its parts and the faults they can have."""
    blades = section.count("blades", 4, 9)
    air_hz, race_hz = section.between("air", 500, 1600), section.between("race", 2400, 5200)
    rolling = section.between("rolling", 3.05, 4.9)
    return Machine(
        speed_hz=section.between("speed", 21, 31),
        wander=0.003,
        snr_db=4.0,
        housing_hz=section.housing_hz(),
        parts=(
            Tones("blades", order=blades, count=8, tilt_db=-4, level_db=-3, load_db=2, wobble=0.15),
            Tones("shaft", order=1, count=5, tilt_db=-5, level_db=-12),
            Flow("air", center_hz=air_hz, octaves=0.9, beats=blades, depth=0.3, level_db=-2, load_db=3),
            Impacts("bearing", per_turn=rolling, resonance_hz=race_hz, decay_s=0.002, level_db=-22),
        ),
        faults=(
            Fault("imbalance", (Tones("whirl", order=1, count=12, tilt_db=-2, level_db=5),)),
            Fault("bearing", (Impacts("pit", per_turn=rolling, resonance_hz=race_hz, decay_s=0.003, level_db=-4),)),
            Fault("clogged", (Flow("choke", center_hz=220, octaves=0.6, level_db=0),), {"air": -4}),
            Fault("rub", (Impacts("rub", per_turn=1, resonance_hz=1700, decay_s=0.006, level_db=-2),)),
        ),
    )


def gearbox(section: Section) -> Machine:
    """The gearbox that a section number stands for: its parts and the faults they can have."""
    pinion, wheel = section.count("pinion", 15, 24), section.count("wheel", 31, 53)
    ratio = section.between("ratio", 0.3, 0.6)
    case_hz, race_hz = section.between("case", 900, 2600), section.between("race", 3000, 6000)
    return Machine(
        speed_hz=section.between("speed", 14, 24),
        wander=0.002,
        snr_db=5.0,
        housing_hz=section.housing_hz(),
        parts=(
            Tones("mesh", order=pinion, count=8, tilt_db=-3.5, level_db=-2, load_db=3, wobble=0.3),
            Tones("second mesh", order=wheel * ratio, count=5, tilt_db=-5, level_db=-6, load_db=3),
            Impacts("bearing", per_turn=4.37, resonance_hz=race_hz, decay_s=0.0015, level_db=-18),
            Flow("oil", center_hz=case_hz, octaves=1.0, level_db=-8, load_db=-2),
        ),
        faults=(
            Fault("chipped tooth", (Impacts("chip", per_turn=1, resonance_hz=case_hz, decay_s=0.004, level_db=0),)),
            Fault("worn mesh", (Tones("wear", order=pinion / 2, count=14, tilt_db=-1, wobble=0.8, level_db=1),)),
            Fault("dry", (Flow("scrape", center_hz=4200, octaves=0.5, level_db=-9),), {"bearing": 9, "oil": -3}),
            Fault("bent shaft", (Tones("whirl", order=ratio, count=30, tilt_db=-0.8, level_db=4),)),
        ),
    )


def pump(section: Section) -> Machine:
    """The pump that a section number stands for: its parts and the faults they can have."""
    vanes = section.count("vanes", 5, 8)
    water_hz, race_hz = section.between("water", 900, 3000), section.between("race", 3000, 5600)
    return Machine(
        speed_hz=section.between("speed", 23, 30),
        wander=0.003,
        snr_db=4.0,
        housing_hz=section.housing_hz(),
        parts=(
            Tones("vanes", order=vanes, count=6, tilt_db=-4, level_db=-4, load_db=2, wobble=0.2),
            Tones("motor", order=2, count=10, tilt_db=-2, level_db=-6),
            Flow("water", center_hz=water_hz, octaves=0.7, beats=vanes, depth=0.5, level_db=-3, load_db=3),
            Impacts("bearing", per_turn=3.57, resonance_hz=race_hz, decay_s=0.002, level_db=-20),
        ),
        faults=(
            Fault("leak", (Flow("hiss", center_hz=5200, octaves=0.35, level_db=-10),), {"water": -2}),
            Fault(
                "cavitation", (Impacts("bubbles", per_turn=9, jitter=1, resonance_hz=3600, decay_s=8e-4, level_db=-6),)
            ),
            Fault("clogged", (Flow("choke", center_hz=350, octaves=0.6, level_db=-3),), {"water": -4, "vanes": 3}),
            Fault("bearing", (Impacts("pit", per_turn=3.57, resonance_hz=race_hz, decay_s=0.003, level_db=-7),)),
        ),
    )


def slider(section: Section) -> Machine:
    """The slider that a section number stands for: its parts and the faults they can have."""
    rail_hz, stop_hz = section.between("rail", 1200, 3600), section.between("stop", 500, 1800)
    balls, there = section.between("balls", 220, 520), section.between("there", 0.4, 0.6)
    return Machine(
        speed_hz=section.between("speed", 0.9, 1.5),
        wander=0.01,
        snr_db=2.0,
        housing_hz=section.housing_hz(),
        parts=(
            Sweep("balls", balls=balls, level_db=-4, load_db=2),
            Stroke("there", center_hz=rail_hz, octaves=0.6, start=0.0, stop=there, level_db=-3, load_db=2),
            Stroke("back", center_hz=0.7 * rail_hz, octaves=0.6, start=there, stop=1.0, level_db=-5),
            Impacts("near stop", per_turn=1, resonance_hz=stop_hz, decay_s=0.012, level_db=-6),
            Impacts(
                "far stop",
                per_turn=1,
                phase=there,
                resonance_hz=1.6 * stop_hz,
                decay_s=0.008,
                level_db=-9,
            ),
        ),
        faults=(
            Fault(
                "rail damage", (Impacts("dent", per_turn=2, phase=0.5, resonance_hz=2400, decay_s=0.004, level_db=0),)
            ),
            Fault("no grease", (Stroke("squeal", center_hz=4300, octaves=0.15, start=0.1, stop=0.9, level_db=-8),)),
            Fault("loose belt", (Flow("flutter", center_hz=420, octaves=0.5, beats=17, depth=0.9, level_db=-4),)),
            Fault("worn balls", (Sweep("knock", balls=2.7 * balls, level_db=-6),), {"balls": 4}),
        ),
    )


def valve(section: Section) -> Machine:
    """The valve that a section number stands for: its parts and the faults they can have."""
    coil_hz, seat_hz = section.between("coil", 900, 2600), section.between("seat", 1800, 5200)
    air_hz, shut = section.between("air", 1500, 4500), section.between("shut", 0.25, 0.7)
    return Machine(
        speed_hz=section.between("speed", 1.1, 2.4),
        wander=0.004,
        snr_db=1.0,
        housing_hz=section.housing_hz(),
        parts=(
            Impacts("open", per_turn=1, resonance_hz=coil_hz, decay_s=0.006, level_db=-2, jitter=0.005),
            Impacts(
                "close",
                per_turn=1,
                phase=shut,
                resonance_hz=seat_hz,
                decay_s=0.004,
                level_db=-4,
                jitter=0.005,
            ),
            Stroke("air", center_hz=air_hz, octaves=0.5, start=0.0, stop=shut, level_db=-5, load_db=4),
        ),
        faults=(
            Fault("leak", (Flow("hiss", center_hz=air_hz, octaves=0.5, level_db=-6),)),
            Fault("bounce", (Impacts("bounce", per_turn=3, resonance_hz=0.7 * seat_hz, decay_s=0.005, level_db=-4),)),
            Fault(
                "dirt", (Stroke("rasp", center_hz=700, octaves=0.4, start=0.1, stop=shut, level_db=-4),), {"air": -5}
            ),
            Fault("weak coil", (Tones("buzz", order=100, count=12, tilt_db=-1, level_db=-6),), {"open": -7}),
        ),
    )


def toy_car(section: Section) -> Machine:
    """The toy car that a section number stands for: its parts and the faults they can have."""
    pinion, magnets = section.count("pinion", 8, 13), section.count("magnets", 3, 7)
    tyre_hz, gear_hz = section.between("tyre", 700, 2400), section.between("gear", 1500, 4800)
    axle = section.between("axle", 0.2, 0.35)
    return Machine(
        speed_hz=section.between("speed", 55, 85),
        wander=0.008,
        snr_db=5.0,
        housing_hz=section.housing_hz(),
        parts=(
            Tones("motor", order=magnets, count=10, tilt_db=-2.5, level_db=-4, load_db=2),
            Tones("gears", order=pinion, count=6, tilt_db=-3, level_db=-4, load_db=3, wobble=0.3),
            Flow("tyres", center_hz=tyre_hz, octaves=0.8, beats=axle, depth=0.4, level_db=-4),
            Impacts("axle", per_turn=axle, resonance_hz=gear_hz, decay_s=0.003, level_db=-16),
        ),
        faults=(
            Fault("bent shaft", (Tones("whirl", order=axle, count=40, tilt_db=-0.5, level_db=1),)),
            Fault("deformed gear", (Impacts("tooth", per_turn=1, resonance_hz=gear_hz, decay_s=0.002, level_db=-3),)),
            Fault("tangled wheel", (Flow("drag", center_hz=3600, octaves=0.5, beats=axle, depth=0.9, level_db=-5),)),
            Fault("overload", (), {"motor": 8, "gears": -8, "tyres": 8}),
        ),
    )


def toy_train(section: Section) -> Machine:
    """The toy train that a section number stands for: its parts and the faults they can have."""
    teeth, poles = section.count("teeth", 14, 22), section.count("poles", 3, 6)
    rail_hz, wheel_hz = section.between("rail", 800, 2800), section.between("wheel", 1600, 4600)
    sleepers = section.between("sleepers", 0.06, 0.12)
    return Machine(
        speed_hz=section.between("speed", 28, 44),
        wander=0.006,
        snr_db=4.0,
        housing_hz=section.housing_hz(),
        parts=(
            Tones("motor", order=poles, count=10, tilt_db=-2.5, level_db=-6, load_db=2),
            Tones("gears", order=teeth, count=6, tilt_db=-4, level_db=-5, load_db=3, wobble=0.25),
            Flow("rolling", center_hz=rail_hz, octaves=0.7, beats=0.25, depth=0.3, level_db=-3),
            Impacts(
                "joints",
                per_turn=sleepers,
                resonance_hz=wheel_hz,
                decay_s=0.006,
                level_db=-10,
                jitter=0.05,
            ),
        ),
        faults=(
            Fault("flat wheel", (Impacts("flat", per_turn=0.25, resonance_hz=wheel_hz, decay_s=0.005, level_db=2),)),
            Fault("broken shaft", (Tones("rattle", order=0.5, count=36, tilt_db=-0.5, level_db=1),)),
            Fault("disjointed rail", (Impacts("gap", per_turn=0.04, resonance_hz=600, decay_s=0.02, level_db=6),)),
            Fault("stone", (Flow("grind", center_hz=4400, octaves=0.4, beats=0.25, depth=0.9, level_db=-4),)),
        ),
    )


MACHINES: dict[str, Callable[[Section], Machine]] = {
    "ToyCar": toy_car,
    "ToyTrain": toy_train,
    "fan": fan,
    "gearbox": gearbox,
    "pump": pump,
    "slider": slider,
    "valve": valve,
}


def build(machine: str, section: int) -> Machine:
    """Section `section` of a machine type: the same product whatever the seed."""
    return MACHINES[machine](Section(machine, section))
