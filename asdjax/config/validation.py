"""Checks of a configuration: each field by its rule, and the rules between fields."""

import difflib

from asdjax.config.fields import FIELDS, PHASE1, Config, flatten_fields, name_phase2
from asdjax.errors import InputError, name_nearest


def validate(config: Config) -> None:
    """Raise InputError for the first field that is unknown or whose value no run could use."""
    values = flatten_fields(config)
    for name in values:
        if name not in FIELDS:
            raise InputError(f"config.{name}: no such field; {suggest(name)}")
    for name, spec in FIELDS.items():
        spec.check(name, values[name])
    _require_heights(config)
    _require_lines(config)


def suggest(name: str) -> str:
    """Return a sentence with the known fields nearest to an unknown one.

    Fields with that last word come first, else fields that contain it, else those of similar spelling. If there are
    none, the sentence lists the first words of all fields.
    """
    near = (
        [known for known in FIELDS if known.rsplit(".", 1)[-1] == name]
        or [known for known in FIELDS if len(name) > 2 and name in known]
        or difflib.get_close_matches(name, FIELDS, cutoff=0.5)
    )[:3]
    first_words = dict.fromkeys(known.split(".")[0] for known in FIELDS)
    if near:
        return name_nearest([f"config.{known}" for known in near])
    return f"there are {', '.join(f'config.{known}' for known in first_words)}"


def _require_heights(config: Config) -> None:
    """Require that the bins of a spectrogram pool evenly into the rows of every variant's pieces."""
    bins = 1 + config.signal.n_fft // 2
    for height in sorted({int(variant.rsplit("_", 1)[1]) for variant in config.variants}):
        if bins % height:
            raise InputError(
                f"config.signal.n_fft: expected 1 + n_fft / 2 bins to be a multiple of {height} for variants of that "
                f"height, got {config.signal.n_fft}, which gives {bins} bins; 2046 gives 1024"
            )


def _require_lines(config: Config) -> None:
    """Require that the evaluated checkpoint lines are ones that training makes."""
    lines = {PHASE1, *map(name_phase2, config.phase2.strategies)}
    for line in config.evaluate.lines:
        if line not in lines:
            raise InputError(f"config.evaluate.lines: expected any of {', '.join(sorted(lines))}, got {line!r}")
