"""results.json of an evaluation: the format of what `evaluate` writes and `score`, `report` and `export` read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asdjax.errors import InputError
from asdjax.inference.thresholds import Threshold, Thresholds
from asdjax.runtime.files import explain_refusal, verify_checksum

FILE = "results.json"
#: Splits of the test clips, in the order in which an evaluation is looked for.
SPLITS = ("dev", "eval")
#: The data that selected a system's models.
NO_SELECTION, LABELLED_TEST, HELD_OUT = "none", "labelled test", "held-out normals"
#: Keys that every reader needs.
_REQUIRED = {
    "accepted",
    "clips",
    "clip_seconds",
    "config",
    "default_system",
    "evaluated",
    "layout",
    "sensitivity",
    "training_clips",
    "warnings",
}


def find_evaluation(workdir: Path, split: str | None) -> Path:
    """Return the folder of a split's evaluation. Without a split, prefer `dev` to `eval`.

    Raises InputError if there is no evaluation.
    """
    folders = [workdir / "evaluation" / name for name in ([split] if split else SPLITS)]
    for folder in folders:
        if (folder / FILE).is_file():
            return folder
    option = f" --split {split}" if split else ""
    raise InputError(
        f"{folders[0]}: expected an evaluation, got none; run asdjax evaluate --workdir {workdir}{option} first"
    )


def read_results(folder: Path) -> dict[str, Any]:
    """Read results.json of an evaluation.

    Raises InputError if the file is missing, damaged or of an earlier version of asdjax.
    """
    file = folder / FILE
    try:
        content = verify_checksum(file.read_text())
        if not content.keys() >= _REQUIRED:
            raise ValueError("of an earlier version of asdjax")
        return content
    except FileNotFoundError:
        raise InputError(f"{file}: expected an evaluation, got none; run asdjax evaluate first") from None
    except OSError as error:
        raise explain_refusal(error, file) or error from None
    except ValueError as error:
        raise InputError(f"{file}: {error}; run asdjax evaluate again") from error


def require_unchanged(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise InputError if results.json no longer equals `content`, read earlier, as another evaluation replaced it."""
    try:
        unchanged = read_results(folder) == content
    except InputError:  # missing for the moment in which another evaluation replaces it
        unchanged = False
    if not unchanged:
        raise InputError(f"{folder}: expected the same evaluation throughout, got a newer one; run the command again")


def select_seed(system: Mapping[str, Any], seed: int | None) -> Mapping[str, Any]:
    """Return thresholds and members of a system's entry. With several seeds, return those of one seed."""
    return system["by_seed"][str(seed)] if "by_seed" in system else system


def encode_thresholds(thresholds: Thresholds) -> list[dict[str, Any]]:
    """Convert thresholds to their JSON entry; `decode_thresholds` is the inverse."""
    return [
        {"machine": machine, "section": section, "domain": domain, **threshold._asdict()}
        for (machine, section, domain), threshold in thresholds.items()
    ]


def decode_thresholds(system: Mapping[str, Any]) -> Thresholds:
    """Read the thresholds of a system's entry, as `select_seed` returns it."""
    return {
        (row["machine"], row["section"], row["domain"]): Threshold(*(row[field] for field in Threshold._fields))
        for row in system["thresholds"]
    }
