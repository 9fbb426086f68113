"""The CSV tables that say what clips are: one's own manifest.csv, and a challenge's attributes_NN.csv."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast, get_args

from asdjax.data.clips import Clip, Domain, Label, Split
from asdjax.data.names import NO_ATTRIBUTES, Attributes
from asdjax.data.rows import csv_rows, decode_text
from asdjax.errors import InputError
from asdjax.runtime.paths import Listings, located

MANIFEST = "manifest.csv"
COLUMNS = ("path", "machine", "section", "domain", "split", "label", "attributes")
_NAME_BYTES = 100  # a file's name may have 255, and holds machine, section, seed and more
REQUIRED = ("path", "machine", "section", "split")


def read_manifest(root: Path) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Clips of the rows of `root`/manifest.csv, and (where, why) for every row that makes none.

    An empty domain means source; an empty label of a training clip means normal, of a test clip unknown. Cells that
    may be empty may be left out at the end of a row. Paths are relative to the table's folder. Raises InputError where
    the table has not the right columns or cannot be read.
    """
    table = root / MANIFEST
    rows = _rows(table)
    _, header = next(rows, (1, []))
    header = [column.lower() for column in header]
    _check_columns(table, header)
    clips, unparsed = [], []
    listings: Listings = {}
    for line, row in rows:
        try:
            clip = _clip(root, header, row)
            clips.append(replace(clip, path=located(clip.path, listings), row=f"{MANIFEST} line {line}"))
        except ValueError as error:
            unparsed.append((f"{table} line {line}", str(error)))
    return clips, unparsed


def read_attributes(folder: Path) -> dict[str, Attributes]:
    """Attributes by clip name from every attributes_NN.csv in a machine type's `folder`.

    Columns are `file_name,d1p,d1v,d2p,d2v,...`: names and values in turn. Raises InputError where a table
    cannot be read or has other columns.
    """
    found: dict[str, Attributes] = {}
    for table in sorted(p for p in folder.iterdir() if is_attributes_table(p.name)):
        rows = _rows(table)
        _, header = next(rows, (1, []))
        if not header or header[0].lower() != "file_name":
            found_columns = decode_text(header) or "no columns"
            raise InputError(
                f"{table}: expected columns file_name,d1p,d1v,..., got {found_columns}; correct its first line"
            )
        found.update((PurePosixPath(row[0].replace("\\", "/")).name, parse_attributes(row[1:])) for _, row in rows)
    return found


def is_attributes_table(name: str) -> bool:
    """Whether a file called `name` holds a challenge's attributes."""
    return name.startswith("attributes_") and name.endswith(".csv")


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and stripped cells of every row that is not blank."""
    line = 1
    try:
        for number, row in csv_rows(table):
            line = number + 1
            yield number, [cell.strip() for cell in row]
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{table}: expected CSV in UTF-8, got {error}; save it again in that form") from error
    except csv.Error as error:
        raise InputError(f"{table} line {line}: expected CSV, got {error}; correct the line, or its quotes") from error


def parse_attributes(cells: list[str]) -> Attributes:
    """Return the attributes of cells that hold names and values in turn."""
    pairs = zip(cells[::2], cells[1::2], strict=False)
    return tuple((name, value) for name, value in pairs if name and name not in NO_ATTRIBUTES)


def _check_columns(table: Path, header: list[str]) -> None:
    if not header:
        raise InputError(
            f"{table}: expected columns {','.join(COLUMNS)}, got an empty file; write them and a row a clip"
        )
    missing = [column for column in REQUIRED if column not in header]
    wrong = [f"none of {', '.join(missing)}"] if missing else []
    wrong += [f"a column {column!r}" for column in header if column not in COLUMNS]
    wrong += [f"{column} twice" for column in dict.fromkeys(header) if header.count(column) > 1]
    if wrong:
        hint = "; separate its cells by commas" if len(header) < 2 else "; correct its first line"
        raise InputError(f"{table}: expected columns {','.join(COLUMNS)}, got {', '.join(wrong)}{hint}")


def _clip(root: Path, header: list[str], row: list[str]) -> Clip:
    if len(row) > len(header) or any(column in REQUIRED for column in header[len(row) :]):
        raise ValueError(f"{len(row)} cells, expected {len(header)}")
    cells = dict.fromkeys(COLUMNS, "") | dict(zip(header, row, strict=False))
    split = _one_of("split", cells["split"].lower(), get_args(Split))
    label = _one_of("label", cells["label"].lower(), ("", *get_args(Label))) or ("normal" if split == "train" else None)
    if split == "train" and label != "normal":
        raise ValueError("a training clip labelled anomaly: training is on normal clips only")
    if not cells["path"]:
        raise ValueError("an empty path")
    return Clip(
        path=root / cells["path"].replace("\\", "/"),
        machine=_folder_name("machine", cells["machine"]),
        section=_folder_name("section", cells["section"]),
        split=cast("Split", split),
        domain=cast("Domain", _one_of("domain", cells["domain"].lower(), ("", *get_args(Domain))) or "source"),
        label=cast("Label | None", label),
        attributes=_manifest_attributes(cells["attributes"]),
        blind=label is None,
    )


def _one_of(column: str, cell: str, allowed: tuple[str, ...]) -> str:
    if cell not in allowed:
        raise ValueError(f"{column} {cell!r}, expected {' or '.join(word or 'empty' for word in allowed)}")
    return cell


def _folder_name(column: str, cell: str) -> str:
    """`cell`, fit for the names of folders and files: machine and section become parts of both."""
    if not cell or cell.startswith(".") or any(c in "/\\" or not c.isprintable() for c in cell):
        raise ValueError(
            f"{column} {cell!r}, expected a name, which begins with no dot and has no slash or control character"
        )
    if len(cell.encode()) > _NAME_BYTES:
        raise ValueError(f"{column} {cell[:20]!r}..., expected a name of at most {_NAME_BYTES} bytes")
    if column == "section" and "_" in cell:  # which ends it in the name of a score file
        raise ValueError(f"section {cell!r}, expected a name without underscores")
    return cell


def _manifest_attributes(cell: str) -> Attributes:
    pairs = []
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"attributes {cell!r}, expected name=value;name=value")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)
