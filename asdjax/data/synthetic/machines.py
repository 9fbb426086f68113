"""Machines of the seven types of DCASE 2021: the parts and the faults of each.

The numbers are plausible, but describe no particular product. Levels, the spread over specimens and the size of faults
are calibrated: on every machine type, simple detectors score about as well as on the real recordings of DCASE 2021
(tests/perf/synthesis_calibration.py).
"""

from collections.abc import Callable

from asdjax.data.synthetic.components import Flow, Impacts, Stroke, Sweep, Tones
from asdjax.data.synthetic.construction import Construction, Fault, SyntheticMachine

#: Size of a fault at severity 0, as a share of its size at severity 1.
LEAST_SHARE = 0.5


def make_fan(traits: Construction) -> SyntheticMachine:
    """Return a fan with these traits."""
    blades = traits.between("blades", 4, 9)
    air_hz, race_hz = traits.between("air", 600, 1900), traits.between("race", 2700, 6400)
    rolling, gusts = traits.between("rolling", 0.3, 1.0), traits.between("gusts", 0.08, 0.3)
    return SyntheticMachine(
        speed_hz=24.0,
        wander=0.003,
        snr_db=5.0,
        housing_hz=traits.housing_hz(),
        parts=(
            Tones("blades", order=blades, count=8, tilt_db=-3, level_db=-7, load_db=2, wobble=0.2),
            Flow("air", center_hz=air_hz, octaves=0.15, beats=gusts, depth=0.9, level_db=-2, load_db=2),
            Impacts("bearing", per_turn=rolling, resonance_hz=race_hz, decay_s=0.003, level_db=-4),
            Flow("wash", center_hz=1200, octaves=1.6, level_db=-6),
        ),
        faults=(
            Fault("imbalance", {"gusts": 0.4, "air": -0.4}),
            Fault("bearing", {"race": 0.4, "rolling": 0.4}),
            Fault("clogged", {"air": 0.3, "blades": -0.4, "race": -0.3}),
            Fault("rub", {"race": 0.3, "air": 0.3}),
        ),
    )


def make_gearbox(traits: Construction) -> SyntheticMachine:
    """Return a gearbox with these traits."""
    teeth = traits.between("teeth", 14, 28)
    case_hz, race_hz = traits.between("case", 700, 2000), traits.between("race", 2800, 6500)
    rolling, rattle = traits.between("rolling", 0.25, 1.0), traits.between("rattle", 0.1, 0.4)
    slack_db = traits.linear("slack", 0, 4)
    return SyntheticMachine(
        speed_hz=18.0,
        wander=0.002,
        snr_db=5.0,
        housing_hz=traits.housing_hz(),
        parts=(
            Tones(
                "mesh",
                order=teeth,
                count=8,
                tilt_db=-2.5,
                level_db=-8,
                load_db=slack_db,
                wobble=0.3,
            ),
            Impacts("bearing", per_turn=rolling, resonance_hz=race_hz, decay_s=0.003, level_db=-4),
            Flow("rattle", center_hz=case_hz, octaves=0.15, beats=rattle, depth=0.9, level_db=-2, load_db=-2),
            Flow("oil", center_hz=1500, octaves=1.5, level_db=-6),
        ),
        faults=(
            Fault("chipped tooth", {"case": 0.4, "rattle": 0.4}),
            Fault("worn bearing", {"race": 0.4, "rolling": 0.4}),
            Fault("loose case", {"case": 0.3, "race": -0.3, "slack": 0.4}),
            Fault("bent shaft", {"race": 0.3, "teeth": -0.4, "case": -0.2}),
        ),
    )


def make_pump(traits: Construction) -> SyntheticMachine:
    """Return a pump with these traits."""
    vanes = traits.between("vanes", 5, 9)
    water_hz, race_hz = traits.between("water", 800, 2300), traits.between("race", 3000, 6600)
    rolling, surge = traits.between("rolling", 0.3, 0.9), traits.between("surge", 0.06, 0.25)
    return SyntheticMachine(
        speed_hz=26.0,
        wander=0.003,
        snr_db=5.0,
        housing_hz=traits.housing_hz(),
        parts=(
            Tones("vanes", order=vanes, count=6, tilt_db=-4, level_db=-8, load_db=2, wobble=0.2),
            Tones("motor", order=2, count=10, tilt_db=-2, level_db=-10),
            Flow("water", center_hz=water_hz, octaves=0.15, beats=surge, depth=0.8, level_db=-2, load_db=2),
            Impacts("bearing", per_turn=rolling, resonance_hz=race_hz, decay_s=0.002, level_db=-4),
            Flow("pipe", center_hz=1000, octaves=1.6, level_db=-6),
        ),
        faults=(
            Fault("leak", {"water": 0.4, "surge": 0.4}),
            Fault("cavitation", {"water": -0.3, "race": 0.3, "rolling": 0.3}),
            Fault("clogged", {"water": -0.4, "vanes": 0.4}),
            Fault("bearing", {"race": -0.4, "rolling": 0.4}),
        ),
    )


def make_slider(traits: Construction) -> SyntheticMachine:
    """Return a slider with these traits."""
    rail_hz, stop_hz = traits.between("rail", 700, 2100), traits.between("stop", 2600, 6400)
    balls, there = traits.between("balls", 220, 520), traits.linear("there", 0.35, 0.65)
    return SyntheticMachine(
        speed_hz=1.6,
        wander=0.01,
        snr_db=10.5,
        housing_hz=traits.housing_hz(),
        parts=(
            Sweep("balls", balls=balls, level_db=-8, load_db=2),
            Stroke("there", center_hz=rail_hz, octaves=0.15, start=0.0, stop=there, level_db=-1, load_db=2),
            Stroke("back", center_hz=stop_hz, octaves=0.12, start=there, stop=1.0, level_db=-2),
            Impacts("near stop", per_turn=2, resonance_hz=stop_hz, decay_s=0.006, level_db=-6),
            Flow("belt", center_hz=1100, octaves=1.6, level_db=-9),
        ),
        faults=(
            Fault("rail damage", {"rail": 0.4, "there": 0.4}),
            Fault("no grease", {"stop": 0.4, "balls": 0.4}),
            Fault("loose belt", {"rail": -0.3, "stop": 0.3, "there": -0.3}),
            Fault("worn balls", {"stop": -0.4, "balls": -0.4}),
        ),
    )


def make_valve(traits: Construction) -> SyntheticMachine:
    """Return a valve with these traits."""
    coil_hz, seat_hz = traits.between("coil", 700, 2100), traits.between("seat", 2700, 6400)
    shut, chatter = traits.linear("shut", 0.25, 0.7), traits.between("chatter", 3, 8)
    return SyntheticMachine(
        speed_hz=1.8,
        wander=0.004,
        snr_db=7.0,
        housing_hz=traits.housing_hz(),
        parts=(
            Impacts("open", per_turn=1, resonance_hz=coil_hz, decay_s=0.012, level_db=-4, jitter=0.005),
            Stroke("air", center_hz=coil_hz, octaves=0.15, start=0.0, stop=shut, level_db=-3, load_db=2),
            Impacts("seat", per_turn=chatter, phase=shut, resonance_hz=seat_hz, decay_s=0.004, level_db=-3),
            Flow("line", center_hz=1300, octaves=1.6, level_db=-6),
        ),
        faults=(
            Fault("leak", {"coil": 0.4, "shut": 0.4}),
            Fault("bounce", {"seat": 0.4, "chatter": 0.4}),
            Fault("dirt", {"coil": -0.3, "seat": 0.3, "shut": -0.3}),
            Fault("weak coil", {"seat": -0.3, "coil": 0.3, "chatter": -0.4}),
        ),
    )


def make_toy_car(traits: Construction) -> SyntheticMachine:
    """Return a toy car with these traits."""
    magnets = traits.between("magnets", 3, 7)
    tyre_hz, gear_hz = traits.between("tyre", 700, 2100), traits.between("gear", 2800, 6600)
    axle, sway = traits.between("axle", 0.08, 0.3), traits.between("sway", 0.03, 0.12)
    return SyntheticMachine(
        speed_hz=70.0,
        wander=0.008,
        snr_db=5.0,
        housing_hz=traits.housing_hz(),
        parts=(
            Tones("motor", order=magnets, count=8, tilt_db=-2.5, level_db=-8, load_db=2),
            Flow("tyres", center_hz=tyre_hz, octaves=0.15, beats=sway, depth=0.8, level_db=-2),
            Impacts("gears", per_turn=axle, resonance_hz=gear_hz, decay_s=0.003, level_db=-4),
            Flow("track", center_hz=1400, octaves=1.6, level_db=-6),
        ),
        faults=(
            Fault("bent shaft", {"tyre": 0.4, "sway": 0.4}),
            Fault("deformed gear", {"gear": 0.4, "axle": 0.4}),
            Fault("tangled wheel", {"tyre": -0.3, "gear": 0.3, "axle": -0.3}),
            Fault("overload", {"gear": -0.3, "magnets": 0.4, "tyre": 0.3}),
        ),
    )


def make_toy_train(traits: Construction) -> SyntheticMachine:
    """Return a toy train with these traits."""
    poles = traits.between("poles", 3, 7)
    rail_hz, wheel_hz = traits.between("rail", 700, 2100), traits.between("wheel", 2700, 6400)
    joints, roll = traits.between("joints", 0.1, 0.4), traits.between("roll", 0.05, 0.2)
    return SyntheticMachine(
        speed_hz=36.0,
        wander=0.006,
        snr_db=6.5,
        housing_hz=traits.housing_hz(),
        parts=(
            Tones("motor", order=poles, count=8, tilt_db=-2.5, level_db=-8, load_db=2),
            Flow("rolling", center_hz=rail_hz, octaves=0.15, beats=roll, depth=0.8, level_db=-2),
            Impacts("joints", per_turn=joints, resonance_hz=wheel_hz, decay_s=0.004, level_db=-4, jitter=0.05),
            Flow("track", center_hz=1200, octaves=1.6, level_db=-6),
        ),
        faults=(
            Fault("flat wheel", {"wheel": 0.4, "joints": 0.4}),
            Fault("broken shaft", {"rail": 0.4, "roll": 0.4}),
            Fault("disjointed rail", {"rail": -0.3, "wheel": 0.3, "joints": -0.3}),
            Fault("stone", {"wheel": -0.4, "poles": 0.4}),
        ),
    )


MACHINES: dict[str, Callable[[Construction], SyntheticMachine]] = {
    "ToyCar": make_toy_car,
    "ToyTrain": make_toy_train,
    "fan": make_fan,
    "gearbox": make_gearbox,
    "pump": make_pump,
    "slider": make_slider,
    "valve": make_valve,
}


def build_machine(machine: str, section: int, specimen: int | None = None) -> SyntheticMachine:
    """Return a machine without a fault: a specimen of a section, or one with the section's own traits for None."""
    return MACHINES[machine](Construction(machine, section, specimen=specimen))


def break_machine(machine: str, section: int, specimen: int, fault: Fault, severity: float) -> SyntheticMachine:
    """Return a specimen of a section with a fault of severity 0 (barely audible) to 1 (obvious)."""
    share = LEAST_SHARE + (1.0 - LEAST_SHARE) * severity
    moved = {trait: share * step for trait, step in fault.moves.items()}
    return MACHINES[machine](Construction(machine, section, moved, specimen))
