"""What the base name of a challenge's recording says; folders above it are never read for meaning."""

import re
from pathlib import Path
from typing import cast

from asdjax.corpus.clips import Clip, Domain, Label, Layout, Split
from asdjax.corpus.kinds import ENDINGS

FOLDERS: dict[str, tuple[Split, Domain | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}
"""Folders of a machine type that hold clips: their split, and their domain where the folder settles it."""

EXPECTED: dict[Layout, str] = {
    "dcase2020": "train/normal_id_00_00000000.wav, test/{normal,anomaly}_id_00_00000000.wav, test/id_00_00000000.wav",
    "dcase2021": "train/section_00_source_train_normal_0000_<attributes>.wav, "
    "source_test/section_00_source_test_{normal,anomaly}_0000.wav, "
    "target_test/section_00_target_test_0000.wav",
    "dcase2022": "train/section_00_source_train_normal_0000_<attributes>.wav, "
    "test/section_00_target_test_{normal,anomaly}_0000_<attributes>.wav, test/section_00_0000.wav",
}

Attributes = tuple[tuple[str, str], ...]

NO_ATTRIBUTES = ("noAttribute", "noAttributes")
"""What stands in a name or table, from 2024 on, where a machine type's attributes are not told."""

_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d+)_\d+\.wav", re.ASCII | re.I)
_SECTION_NAME = re.compile(
    r"section_(?P<section>\d+)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<tail>.*))?\.wav",
    re.ASCII | re.I,
)


def as_wav(name: str) -> str:
    """Return what the challenge's tables call a recording: its name, which ends in .wav whatever the format."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.wav" if dot and f".{ending.lower()}" in ENDINGS and ending.lower() != "wav" else name


def has_id_form(name: str) -> bool:
    """Whether `name` is one of 2020, where sections are machine ids."""
    return _ID_NAME.fullmatch(as_wav(name)) is not None


def has_section_form(name: str) -> bool:
    """Whether `name` is one of 2021 or later."""
    return _SECTION_NAME.fullmatch(as_wav(name)) is not None


def parse_name(path: Path, *, machine: str, folder: str, layout: Layout) -> Clip | None:
    """The clip that `path` is by its base name, None where the name has no form that belongs in `folder`.

    `folder` is a key of FOLDERS. A name that contradicts its folder (a test clip or an anomaly among the
    training clips, a target clip in source_test) does not belong.
    """
    match = (_ID_NAME if layout == "dcase2020" else _SECTION_NAME).fullmatch(as_wav(path.name))
    if match is None:
        return None
    said = {field: value and value.lower() for field, value in match.groupdict().items()}
    split, folder_domain = FOLDERS[folder]
    if layout == "dcase2020":
        domain, fits = "source", folder in ("train", "test")
    else:
        domain = said["domain"]
        fits = _fits(said, folder, split, folder_domain, layout)
    if not fits or (split == "train" and said["label"] != "normal"):
        return None
    tail = "" if layout == "dcase2020" else match["tail"] or ""
    return Clip(
        path=path,
        machine=machine,
        section=match["section"],
        split=split,
        domain=cast("Domain | None", domain),
        label=cast("Label | None", said["label"]),
        attributes=split_attributes(tail),
        blind=said["label"] is None,
        alias="" if as_wav(path.name) == path.name else as_wav(path.name),
    )


def _fits(said: dict[str, str | None], folder: str, split: Split, folder_domain: Domain | None, layout: Layout) -> bool:
    if split == "train":
        return said["split"] == "train" and said["domain"] is not None
    if layout == "dcase2021":
        return said["split"] == "test" and folder_domain is not None and said["domain"] == folder_domain
    return said["split"] in (None, "test") and folder == "test"


def split_attributes(tail: str) -> Attributes:
    """Attributes from the end of a name: `vel_9_loc_A` -> (("vel", "9"), ("loc", "A")).

    Names and values alternate from 2022 on. In 2021 a name or value may itself hold underscores
    (`strength_1_ambient`, `A1Spd28VMic1`): an odd number of parts is kept whole, as the one pair
    ("attributes", tail), so that clips recorded alike still compare equal. `noAttribute` and an empty tail
    give ().
    """
    if not tail or tail in NO_ATTRIBUTES:
        return ()
    parts = tail.split("_")
    if len(parts) % 2:
        return (("attributes", tail),)
    return tuple(zip(parts[::2], parts[1::2], strict=True))
