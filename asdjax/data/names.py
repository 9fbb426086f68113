"""What the base name of a challenge's recording says; folders above it are never read for meaning."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

from asdjax.data.clips import Clip, Domain, Label, Layout, Split
from asdjax.data.formats.kinds import ENDINGS
from asdjax.runtime.paths import composed

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


class ParsedName(NamedTuple):
    """What the name of a challenge's recording says; None where it is silent. Words are in lower case."""

    section: str
    domain: Domain | None
    split: Split | None
    label: Label | None
    attributes: Attributes


def read_name(name: str, layout: Layout) -> ParsedName | None:
    """Return what a base name says in a layout, None for one that has not the layout's form.

    The one reader of names, for recordings, truth and score files alike: case does not matter, from 2021 on `test` may
    be left out, and attributes may be empty. Every recording of 2020 is of the source domain.
    """
    match = (_ID_NAME if layout == "dcase2020" else _SECTION_NAME).fullmatch(as_wav(composed(name)))
    if match is None:
        return None
    words = {field: value and value.lower() for field, value in match.groupdict().items()}
    return ParsedName(
        match["section"],
        cast("Domain | None", "source" if layout == "dcase2020" else words["domain"]),
        cast("Split | None", words.get("split")),
        cast("Label | None", words["label"]),
        split_attributes(match["tail"] or "") if "tail" in words else (),
    )


def has_id_form(name: str) -> bool:
    """Whether `name` is one of 2020, where sections are machine ids."""
    return _ID_NAME.fullmatch(as_wav(name)) is not None


def has_section_form(name: str) -> bool:
    """Whether `name` is one of 2021 or later."""
    return _SECTION_NAME.fullmatch(as_wav(name)) is not None


def guess_layouts(paths: Iterable[str]) -> set[Layout]:
    """Return the layouts that recordings and attribute tables may have by their names and folders; all of them where
    neither shows it."""
    layouts: set[Layout] = {"dcase2020", "dcase2021", "dcase2022"}
    for path in map(PurePosixPath, paths):
        if has_id_form(path.name):
            layouts &= {"dcase2020"}
        elif path.match("attributes_*.csv"):
            layouts &= {"dcase2022"}
        elif has_section_form(path.name):
            of_folder = {"source_test": "dcase2021", "target_test": "dcase2021", "test": "dcase2022"}
            layouts &= {of_folder.get(path.parent.name, layout) for layout in ("dcase2021", "dcase2022")}
    return layouts


def parse_name(path: Path, *, machine: str, folder: str, layout: Layout) -> Clip | None:
    """The clip that `path` is by its base name, None where the name has no form that belongs in `folder`.

    `folder` is a key of FOLDERS. A name that contradicts its folder (a test clip or an anomaly among the
    training clips, a target clip in source_test) does not belong.
    """
    said = read_name(path.name, layout)
    if said is None:
        return None
    split, folder_domain = FOLDERS[folder]
    fits = folder in ("train", "test") if layout == "dcase2020" else _fits(said, folder, split, folder_domain, layout)
    if not fits or (split == "train" and said.label != "normal"):
        return None
    return Clip(
        path=path,
        machine=machine,
        section=said.section,
        split=split,
        domain=said.domain,
        label=said.label,
        attributes=said.attributes,
        blind=said.label is None,
        alias="" if as_wav(path.name) == path.name else as_wav(path.name),
    )


def _fits(said: ParsedName, folder: str, split: Split, folder_domain: Domain | None, layout: Layout) -> bool:
    if split == "train":
        return said.split == "train" and said.domain is not None
    if layout == "dcase2021":
        return said.split in (None, "test") and folder_domain is not None and said.domain == folder_domain
    return said.split in (None, "test") and folder == "test"


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
