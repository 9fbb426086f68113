"""Names of the challenge's recordings, parsed by their base name. Folder names carry no meaning beyond their split."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

from asdjax.data.clips import Clip, Domain, Label, Layout, Split
from asdjax.data.formats.kinds import ENDINGS
from asdjax.runtime.paths import compose

#: Clip folders of a machine type, with their split, and their domain if the folder decides it.
FOLDERS: dict[str, tuple[Split, Domain | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}

#: Examples of valid names, for error messages.
EXPECTED: dict[Layout, str] = {
    "dcase2020": "train/normal_id_00_00000000.wav, test/{normal,anomaly}_id_00_00000000.wav, test/id_00_00000000.wav",
    "dcase2021": "train/section_00_source_train_normal_0000_<attributes>.wav, "
    "source_test/section_00_source_test_{normal,anomaly}_0000.wav, "
    "target_test/section_00_target_test_0000.wav",
    "dcase2022": "train/section_00_source_train_normal_0000_<attributes>.wav, "
    "test/section_00_target_test_{normal,anomaly}_0000_<attributes>.wav, test/section_00_0000.wav",
}

Attributes = tuple[tuple[str, str], ...]

#: Words in a name or table, from 2024 on, for a machine type whose attributes are withheld.
NO_ATTRIBUTES = ("noAttribute", "noAttributes")

_ID_NAME = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d+)_\d+\.wav", re.ASCII | re.I)
_SECTION_NAME = re.compile(
    r"section_(?P<section>\d+)(?:_(?P<domain>source|target))?(?:_(?P<split>train|test))?"
    r"(?:_(?P<label>normal|anomaly))?_\d+(?:_(?P<tail>.*))?\.wav",
    re.ASCII | re.I,
)


def to_wav_name(name: str) -> str:
    """Return the name by which the challenge's tables list a recording: `x.flac` and `x.WAV` become `x.wav`."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.wav" if dot and f".{ending.lower()}" in ENDINGS else name


class ParsedName(NamedTuple):
    """Fields of a recording's name, in lower case. A field is None if the name does not have it."""

    section: str
    domain: Domain | None
    split: Split | None
    label: Label | None
    attributes: Attributes


def read_name(name: str, layout: Layout) -> ParsedName | None:
    """Parse a base name in a layout. Return None if it does not have the layout's form.

    Recordings, truth and score files all use this parser. It ignores case. From 2021 on `test` may be left out, and
    attributes may be empty. Every recording of 2020 is of the source domain.
    """
    match = (_ID_NAME if layout == "dcase2020" else _SECTION_NAME).fullmatch(to_wav_name(compose(name)))
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
    """Return whether `name` has the form of 2020, in which sections are machine ids."""
    return _ID_NAME.fullmatch(to_wav_name(name)) is not None


def has_section_form(name: str) -> bool:
    """Return whether `name` has the form of 2021 and later years."""
    return _SECTION_NAME.fullmatch(to_wav_name(name)) is not None


def guess_layouts(paths: Iterable[str]) -> set[Layout]:
    """Return the layouts that fit all paths of recordings and attribute tables; all layouts if no path decides."""
    layouts: set[Layout] = {"dcase2020", "dcase2021", "dcase2022"}
    for path in map(PurePosixPath, paths):
        if has_id_form(path.name):
            layouts &= {"dcase2020"}
        elif path.match("attributes_*.csv"):
            layouts &= {"dcase2022"}
        elif has_section_form(path.name):
            by_folder = {"source_test": "dcase2021", "target_test": "dcase2021", "test": "dcase2022"}
            layouts &= {by_folder.get(path.parent.name, layout) for layout in ("dcase2021", "dcase2022")}
    return layouts


def parse_name(path: Path, *, machine: str, folder: str, layout: Layout) -> Clip | None:
    """Make a clip of a recording by its base name. Return None if the name does not belong in `folder`.

    `folder` is a key of FOLDERS. A name that contradicts its folder does not belong there: a test clip or an anomaly
    in train, or a target clip in source_test.
    """
    parsed = read_name(path.name, layout)
    if parsed is None:
        return None
    split = FOLDERS[folder][0]
    if not _fits_folder(parsed, folder, layout) or (split == "train" and parsed.label != "normal"):
        return None
    wav_name = to_wav_name(path.name)
    return Clip(
        path=path,
        machine=machine,
        section=parsed.section,
        split=split,
        domain=parsed.domain,
        label=parsed.label,
        attributes=parsed.attributes,
        blind=parsed.label is None,
        alias="" if wav_name == path.name else wav_name,
    )


def _fits_folder(parsed: ParsedName, folder: str, layout: Layout) -> bool:
    split, domain = FOLDERS[folder]
    if layout == "dcase2020":
        return folder in ("train", "test")
    if split == "train":
        return parsed.split == "train" and parsed.domain is not None
    if layout == "dcase2021":
        return parsed.split in (None, "test") and domain is not None and parsed.domain == domain
    return parsed.split in (None, "test") and folder == "test"


def split_attributes(tail: str) -> Attributes:
    """Split the end of a name into attributes: `vel_9_loc_A` -> (("vel", "9"), ("loc", "A")).

    Names and values alternate from 2022 on. In 2021 a name or value may contain underscores (`strength_1_ambient`,
    `A1Spd28VMic1`). An odd number of parts is therefore kept as the one pair ("attributes", tail), so that clips with
    the same attributes compare equal. `noAttribute` and an empty tail give ().
    """
    if not tail or tail in NO_ATTRIBUTES:
        return ()
    parts = tail.split("_")
    if len(parts) % 2:
        return (("attributes", tail),)
    return tuple(zip(parts[::2], parts[1::2], strict=True))
