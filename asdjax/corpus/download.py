"""The challenge's recordings, from Zenodo's records or from zips that are already here, in folders that `check` takes.

DIR/zips holds what was downloaded, DIR/dev_data and DIR/eval_data one folder per machine type.
"""

import json
import re
from collections.abc import Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from asdjax.corpus.layouts import scan
from asdjax.corpus.unzip import look_into, unpack
from asdjax.errors import InputError
from asdjax.files import locked_folder
from asdjax.progress import say

ZENODO = "https://zenodo.org/api/records"

RECORDS = {
    2020: (3678171, 3727685, 3841772),
    2021: (4562016, 4660992, 4884786),
    2022: (6355122, 6462969, 6586456),
    2023: (7882613, 7830345, 7860847),
    2024: (10902294, 11259435, 11363076),
    2025: (15097779, 15392814, 15519362),
}
"""By year: development set, additional training set, evaluation set. Those of 2026 are not known."""

FOLDERS = ("dev_data", "eval_data")
ATTEMPTS = 3
TIMEOUT_S = 30

_ARCHIVE = re.compile(
    r"(?P<set>dev|eval)(_data)?(_(?P<before>train|test))?_(?P<machine>\w+?)(_(?P<after>train|test))?(?P<again>_r\d+)?\.zip"
)


class Archive(NamedTuple):
    """A zip by what its name says: its folder, machine type, part ("train", "test" or "" for both), and how often it
    was published anew; where it is to be had, and its MD5 (in a folder of one's own: "")."""

    name: str
    folder: str
    machine: str
    part: str
    again: int
    place: str
    md5: str


def download(out: Path, year: int, machines: Sequence[str] = (), *, records: str = ZENODO) -> int:
    """Download and unpack a year's recordings; returns the number of clips.

    What is already there, whole, is not downloaded again. `records` is the address of the records' listing.
    Raises InputError for a year without known records, an unknown machine type, and where a file cannot be had or is
    not what its record says.
    """
    if year not in RECORDS:
        known = ", ".join(map(str, RECORDS))
        raise InputError(
            f"--year: expected one of {known}, got {year}, whose records are not known; give --zips DIR instead"
        )
    archives = _chosen([a for record in RECORDS[year] for a in _listed(f"{records}/{record}")], machines)
    with locked_folder(out):
        for left in (out / "zips").glob("tmp*"):  # what an ended download left: pooch's name until a file is whole
            left.unlink()
        for archive in archives:
            _fetch(archive, out / "zips")
        return _unpacked(out, [(out / "zips" / archive.name, archive) for archive in archives])


def unpack_zips(out: Path, zips: Path, machines: Sequence[str] = ()) -> int:
    """Unpack the challenge's zips that lie in a folder; returns the number of clips.

    Raises InputError where there are none, for an unknown machine type, and for what `unpack` refuses.
    """
    if not zips.is_dir():
        raise InputError(f"{zips}: expected a folder with zips, there is none; check --zips")
    archives = _chosen(
        _named((path.name, str(path), "") for path in sorted(zips.iterdir()) if path.is_file()), machines
    )
    if not archives:
        raise InputError(f"{zips}: expected zips such as dev_data_fan.zip or eval_data_fan_train.zip, found none")
    with locked_folder(out):
        return _unpacked(out, [(Path(archive.place), archive) for archive in archives])


def _listed(record: str) -> list[Archive]:
    """A record's zips, with their MD5."""
    try:
        with urlopen(record, timeout=TIMEOUT_S) as answer:
            files = json.load(answer)["files"]
        archives = _named((file["key"], file["links"]["self"], file["checksum"]) for file in files)
    except (URLError, OSError, HTTPException) as error:
        raise InputError(f"{record}: cannot be reached ({error}); try again later, or give --zips") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record}: expected a record's list of files, came something else ({error!r})") from error
    if not archives:
        raise InputError(f"{record}: expected zips such as dev_data_fan.zip in the record, found none; give --zips")
    return archives


def _named(files: Iterable[tuple[str, str, str]]) -> list[Archive]:
    """The files (name, place, MD5) that are the challenge's zips, of those published anew only the last."""
    newest: dict[tuple[str, str, str], Archive] = {}
    for name, place, md5 in files:
        if (match := _ARCHIVE.fullmatch(name)) is None:
            continue
        part = match["before"] or match["after"] or ""
        again = int((match["again"] or "_r1").removeprefix("_r"))
        archive = Archive(name, f"{match['set']}_data", match["machine"], part, again, place, md5)
        key = archive.folder, archive.machine, part
        if key not in newest or newest[key].again < again:
            newest[key] = archive
    return list(newest.values())


def _chosen(archives: list[Archive], machines: Sequence[str]) -> list[Archive]:
    there = sorted({archive.machine for archive in archives})
    unknown = sorted(set(machines) - set(there))
    if unknown:
        raise InputError(f"--machines: expected some of {', '.join(there) or 'none'}; got {', '.join(unknown)}")
    return [archive for archive in archives if not machines or archive.machine in machines]


def _fetch(archive: Archive, folder: Path) -> None:
    """Have an archive in the folder, whole; a file under its final name always is."""
    import pooch  # late: it takes a while to load, and --zips does without
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("ERROR")
    shelf = pooch.create(
        folder,
        "",
        registry={archive.name: archive.md5},
        urls={archive.name: archive.place},
        retry_if_failed=ATTEMPTS - 1,
    )
    bar: Any = tqdm(desc=archive.name, total=1, unit="B", unit_scale=True, dynamic_ncols=True, disable=None)
    fetch: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**20, timeout=TIMEOUT_S)
    try:
        shelf.fetch(archive.name, downloader=fetch)
        say(f"{archive.name}: here, whole")
    except RequestException as error:
        why = " ".join(str(error).split())
        raise InputError(f"{archive.place}: cannot be downloaded ({why}); run the same command again") from error
    except ValueError as error:  # pooch: of another hash
        raise InputError(
            f"{archive.place}: expected {archive.md5}, came other contents in {ATTEMPTS} attempts; run the same "
            "command again, or get it by hand and give --zips"
        ) from error
    finally:
        bar.close()


def _unpacked(out: Path, archives: Sequence[tuple[Path, Archive]]) -> int:
    for path, _ in archives:
        look_into(path)  # all of them first: where one is refused, nothing is unpacked
    for path, archive in archives:
        unpack(path, out / archive.folder)
    found = scan([out / folder for folder in FOLDERS if (out / folder).is_dir()])
    for where, why in found.unparsed[:3]:
        say(f"{where}: {why}")
    return len(found.clips)
