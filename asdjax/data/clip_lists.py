"""CSV tables that describe clips: a user's manifest.csv and a challenge's attributes_NN.csv."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast, get_args

from asdjax.data.clips import Clip, Domain, Label, Split, Unparsed
from asdjax.data.names import NO_ATTRIBUTES, Attributes
from asdjax.data.rows import join_cells, read_csv
from asdjax.errors import InputError
from asdjax.runtime.paths import Listings, compose, expand_home, find_spelling

MANIFEST = "manifest.csv"
COLUMNS = ("path", "machine", "section", "domain", "split", "label", "attributes")
REQUIRED = ("path", "machine", "section", "split")
_NAME_BYTES = 100  # a file name has at most 255 bytes, and contains machine, section, seed and more


class ManifestRows(NamedTuple):
    """Rows of a manifest: its clips, the rows that give none, and the machine types of all its rows."""

    clips: list[Clip]
    unparsed: list[Unparsed]
    machines: set[str]


def read_manifest(root: Path, machines: Sequence[str] = ()) -> ManifestRows:
    """Read `root`/manifest.csv. If machine types are named, no path of another one is looked at.

    Paths are relative to the table's folder; `~` at the beginning is the home folder. An empty domain means source. An
    empty label means normal for a training clip and unknown for a test clip. Empty cells at the end of a row may be
    left out.

    Raises InputError if the table has the wrong columns or cannot be read.
    """
    table = root / MANIFEST
    rows = _read_cells(table)
    _, header = next(rows, (1, []))
    header = [column.lower() for column in header]
    _check_columns(table, header)
    found = ManifestRows([], [], set())
    listings: Listings = {}
    for line, row in rows:
        cells = dict(zip(header, row, strict=False))
        machine = compose(cells["machine"]) if "machine" in cells else ""
        if machine:
            found.machines.add(machine)
            if machines and machine not in machines:
                continue
        try:
            clip = _make_clip(root, header, row)
            clip = replace(clip, path=find_spelling(clip.path, listings), row=f"{MANIFEST} line {line}")
            found.clips.append(clip)
        except (ValueError, InputError) as error:
            found.unparsed.append(Unparsed(f"{table} line {line}", str(error), machine))
    return found


def read_attributes(folder: Path) -> dict[str, Attributes]:
    """Read every attributes_NN.csv in a machine type's `folder`. Return attributes by clip name.

    The columns are `file_name,d1p,d1v,d2p,d2v,...`: names and values alternate. Raises InputError if a table cannot be
    read or has other columns.
    """
    found: dict[str, Attributes] = {}
    for table in sorted(path for path in folder.iterdir() if is_attributes_table(path.name)):
        rows = _read_cells(table)
        _, header = next(rows, (1, []))
        if not header or header[0].lower() != "file_name":
            got = join_cells(header) or "no columns"
            raise InputError(f"{table}: expected columns file_name,d1p,d1v,..., got {got}; correct its first line")
        found.update((PurePosixPath(row[0].replace("\\", "/")).name, parse_attributes(row[1:])) for _, row in rows)
    return found


def is_attributes_table(name: str) -> bool:
    """Return whether a file with this name is a challenge's table of attributes."""
    return name.startswith("attributes_") and name.endswith(".csv")


def parse_attributes(cells: list[str]) -> Attributes:
    """Return the attributes in cells of alternating names and values."""
    pairs = zip(cells[::2], cells[1::2], strict=False)
    return tuple((name, value) for name, value in pairs if name and name not in NO_ATTRIBUTES)


def _read_cells(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of every row that is not blank."""
    line = 1
    try:
        for number, row in read_csv(table):
            line = number + 1
            yield number, [cell.strip() for cell in row]
    except OSError as error:
        raise InputError(f"{table}: expected a readable file, got {error.strerror}; check its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{table}: expected CSV in UTF-8, got {error}; save it again in that form") from error
    except csv.Error as error:
        raise InputError(f"{table} line {line}: expected CSV, got {error}; correct the line, or its quotes") from error


def _check_columns(table: Path, header: list[str]) -> None:
    if not header:
        raise InputError(
            f"{table}: expected columns {','.join(COLUMNS)}, got an empty file; write them, and one row per clip"
        )
    missing = [column for column in REQUIRED if column not in header]
    wrong = [f"none of {', '.join(missing)}"] if missing else []
    wrong += [f"a column {column!r}" for column in header if column not in COLUMNS]
    wrong += [f"{column} twice" for column in dict.fromkeys(header) if header.count(column) > 1]
    if wrong:
        remedy = "separate its cells by commas" if len(header) < 2 else "correct its first line"
        raise InputError(f"{table}: expected columns {','.join(COLUMNS)}, got {', '.join(wrong)}; {remedy}")


def _make_clip(root: Path, header: list[str], row: list[str]) -> Clip:
    """Return the clip of a row. Raise ValueError or InputError if the row gives none."""
    if len(row) > len(header) or any(column in REQUIRED for column in header[len(row) :]):
        raise ValueError(f"expected {len(header)} cells, got {len(row)}")
    cells = dict.fromkeys(COLUMNS, "") | dict(zip(header, row, strict=False))
    split = _check_word("split", cells["split"].lower(), get_args(Split))
    label = _check_word("label", cells["label"].lower(), ("", *get_args(Label)))
    label = label or ("normal" if split == "train" else None)
    if split == "train" and label != "normal":
        raise ValueError("expected normal training clips only, got one labelled anomaly")
    if not cells["path"]:
        raise ValueError("expected a path, got an empty cell")
    return Clip(
        path=_make_path(root, cells["path"].replace("\\", "/")),
        machine=_check_folder_name("machine", cells["machine"]),
        section=_check_folder_name("section", cells["section"]),
        split=cast("Split", split),
        domain=cast("Domain", _check_word("domain", cells["domain"].lower(), ("", *get_args(Domain))) or "source"),
        label=cast("Label | None", label),
        attributes=_parse_manifest_attributes(cells["attributes"]),
        blind=label is None,
    )


def _make_path(root: Path, cell: str) -> Path:
    """Return the path of a cell, with `~` expanded unless a file in `root` has that very name."""
    path = root / cell
    return root / expand_home(cell) if cell.startswith("~") and not os.path.lexists(path) else path


def _check_word(column: str, cell: str, allowed: tuple[str, ...]) -> str:
    if cell not in allowed:
        raise ValueError(f"{column}: expected {' or '.join(word or 'empty' for word in allowed)}, got {cell!r}")
    return cell


def _check_folder_name(column: str, cell: str) -> str:
    """Return `cell` if it can be part of a folder's and a file's name, else raise ValueError."""
    if not cell or cell.startswith(".") or any(c in "/\\" or not c.isprintable() for c in cell):
        raise ValueError(
            f"{column}: expected a name without a dot in front, slashes or control characters, got {cell!r}"
        )
    if len(cell.encode()) > _NAME_BYTES:
        raise ValueError(f"{column}: expected a name of at most {_NAME_BYTES} bytes, got {cell[:20]!r}...")
    if column == "section" and "_" in cell:  # an underscore ends the section in the name of a score file
        raise ValueError(f"section: expected a name without underscores, got {cell!r}")
    return cell


def _parse_manifest_attributes(cell: str) -> Attributes:
    pairs = []
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"attributes: expected name=value;name=value, got {cell!r}")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)
