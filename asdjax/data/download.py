"""Download of the challenge's recordings from Zenodo, or their unpacking from local zips.

DIR/zips has the downloaded files. DIR/dev_data and DIR/eval_data have a folder per machine type, as `check` expects.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from asdjax.data.clips import Layout
from asdjax.data.layouts import scan
from asdjax.data.names import guess_layouts
from asdjax.data.unzip import check_archive, list_names, unpack
from asdjax.errors import InputError
from asdjax.runtime.files import locked_folder
from asdjax.runtime.paths import compose
from asdjax.runtime.progress import log

ZENODO = "https://zenodo.org/api/records"

#: Numbers of Zenodo's records by year: development set, additional training set, evaluation set. Those of 2026 are
#: not known yet.
RECORDS = {
    2020: (3678171, 3727685, 3841772),
    2021: (4562016, 4660992, 4884786),
    2022: (6355122, 6462969, 6586456),
    2023: (7882613, 7830345, 7860847),
    2024: (10902294, 11259435, 11363076),
    2025: (15097779, 15392814, 15519362),
}

FOLDERS = ("dev_data", "eval_data")
ATTEMPTS = 3
TIMEOUT_S = 30

_ARCHIVE = re.compile(
    r"(?P<set>dev|eval)(_data)?(_(?P<before>train|test))?_(?P<machine>\w+?)(_(?P<after>train|test))?(?P<edition>_r\d+)?\.zip"
)
# Additions of browsers and file managers to the name of a second copy, in front or before the ending
_COPY_MARK = re.compile(
    r"^(?:copy of|kopie von|copie de|copia de) "
    r"|(?:[ _]?\(\d+\)|[- ]\d+| -? ?(?:copy|kopie|copie|copia)(?: \d+)?)+(?=\.zip$)",
    re.I,
)
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".opdownload", ".tmp", ".aria2", ".!ut")


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """Zip of the challenge.

    `folder` is "dev_data" or "eval_data", `part` "train", "test" or "" for both, `edition` counts from 1, `place` is a
    URL or a local path, and `md5` is "md5:<hex>", empty for a local file.
    """

    name: str
    folder: str
    machine: str
    part: str
    edition: int
    place: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ZenodoRecord:
    """Record of Zenodo: its URL, licence and zips, and the size in bytes of each file by name."""

    url: str
    licence: str
    archives: list[Archive]
    sizes: Mapping[str, int]


def download(out: Path, year: int, machines: Sequence[str] = (), *, records: str = ZENODO) -> int:
    """Download and unpack a year's recordings. Return the number of clips.

    Complete files are not downloaded again. The licence and the size of each record are logged before the download.
    `records` is the URL of the records.

    Raises InputError for a year without known records, an unknown machine type, a failed download, or a file that does
    not match its record's checksum.
    """
    if year not in RECORDS:
        known = ", ".join(map(str, RECORDS))
        raise InputError(
            f"--year: expected one of {known}, got {year}, whose records are not known; give --zips DIR instead"
        )
    zenodo_records = [_fetch_record(f"{records}/{number}") for number in RECORDS[year]]
    archives = _select_machines([archive for record in zenodo_records for archive in record.archives], machines)
    for record in zenodo_records:
        log(_describe_record(record, archives))
    with locked_folder(out):
        for partial in (out / "zips").glob("tmp*"):  # pooch's name for an incomplete file
            partial.unlink()
        for archive in archives:
            _fetch_archive(archive, out / "zips")
        return _unpack_all(out, [(out / "zips" / archive.name, archive) for archive in archives])


def unpack_zips(out: Path, zips: Path, machines: Sequence[str] = ()) -> int:
    """Unpack the challenge's zips in a folder. Return the number of clips.

    Raises InputError if there are none, for an unknown machine type, and for zips that `unpack` refuses.
    """
    if not zips.is_dir():
        raise InputError(f"{zips}: expected a folder with zips, got none; check --zips")
    files = [path for path in sorted(zips.iterdir()) if not path.name.startswith(".")]
    found = _parse_archives((path.name, str(path), "") for path in files if path.is_file())
    used = {archive.place for archive in found}
    skipped = [path.name for path in files if str(path) not in used]
    if skipped:
        log(f"{zips}: skipped {', '.join(map(_describe_skipped, skipped))}")
    archives = _select_machines(found, machines)
    if not archives:
        raise InputError(
            f"{zips}: expected zips such as dev_data_fan.zip or eval_data_fan_train.zip, got none; check --zips"
        )
    _require_one_year(out, [Path(archive.place) for archive in archives])
    with locked_folder(out):
        return _unpack_all(out, [(Path(archive.place), archive) for archive in archives])


def _describe_skipped(name: str) -> str:
    """Return a file's name and the reason why it is not unpacked."""
    if name.lower().endswith(_UNFINISHED):
        return f"{name!r} (a download that has not ended)"
    if _ARCHIVE.fullmatch(_original_name(name)):
        return f"{name!r} (a folder, an older edition or a second copy)"
    return f"{name!r} (not the name of a zip of the challenge)"


def _original_name(name: str) -> str:
    """Return a file's name without the additions of browsers and file managers for a second copy."""
    name = re.sub(r"(\.zip)\.\d+$", r"\1", compose(name), flags=re.I)  # wget appends a number
    if name.lower().endswith(".zip"):
        name = f"{name[:-4]}.zip"
    return _COPY_MARK.sub("", name)


def _require_one_year(out: Path, zips: Sequence[Path]) -> None:
    """Raise InputError if the zips, or earlier files in `out`, have layouts of different years."""
    present = [path for folder in FOLDERS for path in (out / folder).rglob("*") if path.is_file()]
    seen = {out: guess_layouts(path.as_posix() for path in present)} if present else {}
    for path in zips:
        layouts = guess_layouts(list_names(path))
        if not layouts:
            raise InputError(f"{path}: expected recordings of one year, got names of several; get it again")
        for other, other_layouts in seen.items():
            if not layouts & other_layouts:
                raise InputError(
                    f"{path}: expected recordings of one year, got names of {_format_years(layouts)} here and of "
                    f"{_format_years(other_layouts)} in {other}; unpack each year into an --out of its own"
                )
        seen[path] = layouts


def _format_years(layouts: Collection[Layout]) -> str:
    return " or ".join(
        {"dcase2022": "2022 or later"}.get(layout, layout.removeprefix("dcase")) for layout in sorted(layouts)
    )


def _fetch_record(url: str) -> ZenodoRecord:
    """Fetch a record of Zenodo. Raises InputError if it cannot be reached or has another form."""
    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            content = json.load(response)
        files = content["files"]
        archives = _parse_archives((file["key"], file["links"]["self"], file["checksum"]) for file in files)
        sizes = {file["key"]: file["size"] for file in files if isinstance(file.get("size"), int)}
        record = ZenodoRecord(url=url, licence=_find_licence(content), archives=archives, sizes=sizes)
    except (URLError, OSError, HTTPException) as error:
        raise InputError(f"{url}: cannot be reached ({error}); try again later, or give --zips") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{url}: expected a record's list of files, got something else ({error!r}); give --zips"
        ) from error
    if not archives:
        raise InputError(f"{url}: expected zips such as dev_data_fan.zip in the record, got none; give --zips")
    return record


def _find_licence(content: Mapping[str, Any]) -> str:
    """Return a record's licence, in either of Zenodo's forms, empty if it has none."""
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    licences = metadata.get("license") or metadata.get("rights") or content.get("license") or []
    licences = licences if isinstance(licences, list) else [licences]
    names = [
        licence.get("id") or licence.get("title") if isinstance(licence, dict) else licence for licence in licences
    ]
    return ", ".join(str(name) for name in names if name)


def _describe_record(record: ZenodoRecord, selected: Collection[Archive]) -> str:
    """Describe a record by its URL, its licence, and the number and size of its selected zips."""
    wanted = [archive for archive in record.archives if archive in selected]
    sizes = [record.sizes.get(archive.name) for archive in wanted]
    known = [size for size in sizes if size is not None]
    size = f"{sum(known) / 1e9:.2f} GB" if len(known) == len(sizes) else "size not stated"
    zips = "1 zip" if len(wanted) == 1 else f"{len(wanted)} zips"
    return f"{record.url}: licence {record.licence or 'not stated, see the record'}; {zips}, {size}"


def _parse_archives(files: Iterable[tuple[str, str, str]]) -> list[Archive]:
    """Return the challenge's zips among files (name, place, MD5).

    Of several editions the last one is kept, and of several copies the one with the original name.
    """
    best: dict[tuple[str, str, str], tuple[tuple[int, bool], Archive]] = {}
    for name, place, md5 in files:
        original = _original_name(name)
        if (match := _ARCHIVE.fullmatch(original)) is None:
            continue
        archive = Archive(
            name=name,
            folder=f"{match['set']}_data",
            machine=match["machine"],
            part=match["before"] or match["after"] or "",
            edition=int((match["edition"] or "_r1").removeprefix("_r")),
            place=place,
            md5=md5,
        )
        key, rank = (archive.folder, archive.machine, archive.part), (archive.edition, name == original)
        if key not in best or best[key][0] < rank:
            best[key] = rank, archive
    return [archive for _, archive in best.values()]


def _select_machines(archives: list[Archive], machines: Sequence[str]) -> list[Archive]:
    """Return the archives of the given machine types, all if none are given. Raise InputError for an unknown one."""
    known = sorted({archive.machine for archive in archives})
    unknown = sorted(set(machines) - set(known))
    if unknown:
        raise InputError(f"--machines: expected some of {', '.join(known) or 'none'}; got {', '.join(unknown)}")
    return [archive for archive in archives if not machines or archive.machine in machines]


def _fetch_archive(archive: Archive, folder: Path) -> None:
    """Download an archive into the folder unless it is there. A file gets its final name when it is complete."""
    import pooch  # late: the import is slow, and --zips does not need it
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("ERROR")
    downloads = pooch.create(
        folder,
        "",
        registry={archive.name: archive.md5},
        urls={archive.name: archive.place},
        retry_if_failed=ATTEMPTS - 1,
    )
    bar: Any = tqdm(desc=archive.name, total=1, unit="B", unit_scale=True, dynamic_ncols=True, disable=None)
    downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**20, timeout=TIMEOUT_S)
    try:
        downloads.fetch(archive.name, downloader=downloader)
        log(f"{archive.name}: complete")
    except RequestException as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{archive.place}: cannot be downloaded ({reason}); run the same command again") from error
    except ValueError as error:  # pooch: another hash
        raise InputError(
            f"{archive.place}: expected {archive.md5}, got other contents in {ATTEMPTS} attempts; run the same "
            "command again, or download it yourself and give --zips"
        ) from error
    finally:
        bar.close()


def _unpack_all(out: Path, archives: Sequence[tuple[Path, Archive]]) -> int:
    for path, _ in archives:
        check_archive(path)  # all first, so that nothing is unpacked if one is refused
    for path, archive in archives:
        unpack(path, out / archive.folder)
    found = scan([out / folder for folder in FOLDERS if (out / folder).is_dir()])
    for one in found.unparsed[:3]:
        log(f"{one.where}: {one.why}")
    _log_misplaced(out, archives, {compose(str(clip.path)) for clip in found.clips})
    return len(found.clips)


def _log_misplaced(out: Path, archives: Sequence[tuple[Path, Archive]], clips: set[str]) -> None:
    """Log the unpacked recordings that are in no machine folder, as from a zip with a folder around its contents."""
    names = [(archive, name) for path, archive in archives for name in list_names(path)]
    recordings = [out / archive.folder / name for archive, name in names if name.lower().endswith((".wav", ".flac"))]
    misplaced = [path for path in recordings if compose(str(path)) not in clips]
    if misplaced:
        log(
            f"{len(misplaced)} of {len(recordings)} unpacked recordings are no clips of a machine type (such as "
            f"{misplaced[0]}); move their machine folders to {out / archives[0][1].folder}"
        )
