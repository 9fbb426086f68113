"""The challenge's recordings, from Zenodo's records or from zips that are already here, in folders that `check` takes.

DIR/zips holds what was downloaded, DIR/dev_data and DIR/eval_data one folder per machine type.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from asdjax.data.clips import Layout
from asdjax.data.layouts import scan
from asdjax.data.names import guess_layouts
from asdjax.data.unzip import look_into, names_in, unpack
from asdjax.errors import InputError
from asdjax.runtime.files import locked_folder
from asdjax.runtime.paths import composed
from asdjax.runtime.progress import log

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
# what browsers and file managers add to the name of a second copy, before the ending or in front
_OF_A_COPY = re.compile(
    r"^(?:copy of|kopie von|copie de|copia de) "
    r"|(?:[ _]?\(\d+\)|[- ]\d+| -? ?(?:copy|kopie|copie|copia)(?: \d+)?)+(?=\.zip$)",
    re.I,
)
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".opdownload", ".tmp", ".aria2", ".!ut")


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


class ZenodoRecord(NamedTuple):
    """A record of Zenodo: its address, the licence that it states, its zips, and sizes in bytes by file name."""

    address: str
    licence: str
    archives: list[Archive]
    sizes: Mapping[str, int]


def download(out: Path, year: int, machines: Sequence[str] = (), *, records: str = ZENODO) -> int:
    """Download and unpack a year's recordings; returns the number of clips.

    What is already there, whole, is not downloaded again. Each record's licence and size are said before anything is
    downloaded. `records` is the address of the records' listing.
    Raises InputError for a year without known records, an unknown machine type, and where a file cannot be had or is
    not what its record says.
    """
    if year not in RECORDS:
        known = ", ".join(map(str, RECORDS))
        raise InputError(
            f"--year: expected one of {known}, got {year}, whose records are not known; give --zips DIR instead"
        )
    listed = [_listed(f"{records}/{record}") for record in RECORDS[year]]
    archives = _chosen([archive for record in listed for archive in record.archives], machines)
    for record in listed:
        log(_described(record, archives))
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
    files = [path for path in sorted(zips.iterdir()) if not path.name.startswith(".")]
    found = _named((path.name, str(path), "") for path in files if path.is_file())
    taken = {archive.place for archive in found}
    passed_over = [path.name for path in files if str(path) not in taken]
    if passed_over:
        log(f"{zips}: passed over {', '.join(map(_passed_over, passed_over))}")
    archives = _chosen(found, machines)
    if not archives:
        raise InputError(f"{zips}: expected zips such as dev_data_fan.zip or eval_data_fan_train.zip, found none")
    _require_one_year(out, [Path(archive.place) for archive in archives])
    with locked_folder(out):
        return _unpacked(out, [(Path(archive.place), archive) for archive in archives])


def _passed_over(name: str) -> str:
    """Return a file's name, and why it is not unpacked."""
    if name.lower().endswith(_UNFINISHED):
        return f"{name!r} (a download that has not ended)"
    if _ARCHIVE.fullmatch(_original_name(name)):
        return f"{name!r} (a folder, an older edition or a second copy)"
    return f"{name!r} (not the name of a zip of the challenge)"


def _original_name(name: str) -> str:
    """Return the name of a file before a browser or file manager made a copy of it."""
    name = re.sub(r"(\.zip)\.\d+$", r"\1", composed(name), flags=re.I)  # as wget numbers them
    if name.lower().endswith(".zip"):
        name = f"{name[:-4]}.zip"
    return _OF_A_COPY.sub("", name)


def _require_one_year(out: Path, zips: Sequence[Path]) -> None:
    """Raise InputError where archives, and what was unpacked into `out` earlier, have layouts of different years."""
    there = [path for folder in FOLDERS for path in (out / folder).rglob("*") if path.is_file()]
    seen = {out: guess_layouts(path.as_posix() for path in there)} if there else {}
    for path in zips:
        layouts = guess_layouts(names_in(path))
        if not layouts:
            raise InputError(f"{path}: expected recordings of one year, got names of several; get it again")
        for other, of_other in seen.items():
            if not layouts & of_other:
                raise InputError(
                    f"{path}: expected recordings of one year, got names of {_years(layouts)} here and of "
                    f"{_years(of_other)} in {other}; unpack each year into an --out of its own"
                )
        seen[path] = layouts


def _years(layouts: Collection[Layout]) -> str:
    return " or ".join(
        {"dcase2022": "2022 or later"}.get(layout, layout.removeprefix("dcase")) for layout in sorted(layouts)
    )


def _listed(address: str) -> ZenodoRecord:
    """Return a record: its zips with their MD5, licence and sizes."""
    try:
        with urlopen(address, timeout=TIMEOUT_S) as answer:
            content = json.load(answer)
        files = content["files"]
        archives = _named((file["key"], file["links"]["self"], file["checksum"]) for file in files)
        sizes = {file["key"]: file["size"] for file in files if isinstance(file.get("size"), int)}
        record = ZenodoRecord(address, _licence(content), archives, sizes)
    except (URLError, OSError, HTTPException) as error:
        raise InputError(f"{address}: cannot be reached ({error}); try again later, or give --zips") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{address}: expected a record's list of files, got something else ({error!r})") from error
    if not archives:
        raise InputError(f"{address}: expected zips such as dev_data_fan.zip in the record, found none; give --zips")
    return record


def _licence(content: Mapping[str, Any]) -> str:
    """Return the licence that a record states, in either of the forms that Zenodo has used; empty where it has none."""
    about = content.get("metadata")
    about = about if isinstance(about, dict) else {}
    stated = about.get("license") or about.get("rights") or content.get("license") or []
    stated = stated if isinstance(stated, list) else [stated]
    words = [one.get("id") or one.get("title") if isinstance(one, dict) else one for one in stated]
    return ", ".join(str(word) for word in words if word)


def _described(record: ZenodoRecord, chosen: Collection[Archive]) -> str:
    """Return the licence of a record and the size of what is wanted of it."""
    wanted = [archive for archive in record.archives if archive in chosen]
    sizes = [record.sizes.get(archive.name) for archive in wanted]
    known = [size for size in sizes if size is not None]
    size = f"{sum(known) / 1e9:.2f} GB" if len(known) == len(sizes) else "size not stated"
    zips = "1 zip" if len(wanted) == 1 else f"{len(wanted)} zips"
    return f"{record.address}: licence {record.licence or 'not stated, see the record'}; {zips}, {size}"


def _named(files: Iterable[tuple[str, str, str]]) -> list[Archive]:
    """Return the files (name, place, MD5) that are the challenge's zips, of several editions or copies only one: the
    last edition, the one whose name is the record's."""
    newest: dict[tuple[str, str, str], Archive] = {}
    for name, place, md5 in files:
        if (match := _ARCHIVE.fullmatch(_original_name(name))) is None:
            continue
        part = match["before"] or match["after"] or ""
        again = int((match["again"] or "_r1").removeprefix("_r"))
        archive = Archive(name, f"{match['set']}_data", match["machine"], part, again, place, md5)
        key = archive.folder, archive.machine, part
        if key not in newest or (newest[key].again, newest[key].name == _original_name(newest[key].name)) < (
            again,
            name == _original_name(name),
        ):
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
        log(f"{archive.name}: here, whole")
    except RequestException as error:
        why = " ".join(str(error).split())
        raise InputError(f"{archive.place}: cannot be downloaded ({why}); run the same command again") from error
    except ValueError as error:  # pooch: of another hash
        raise InputError(
            f"{archive.place}: expected {archive.md5}, got other contents in {ATTEMPTS} attempts; run the same "
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
        log(f"{where}: {why}")
    return len(found.clips)
