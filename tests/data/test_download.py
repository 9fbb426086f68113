"""Downloads from a local HTTP server in place of Zenodo, and hostile and damaged zips."""

import hashlib
import json
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.cli.main import main
from asdjax.data import download as module
from asdjax.data import unzip
from asdjax.data.download import RECORDS, download
from asdjax.errors import InputError

DEVELOPMENT, ADDITIONAL, EVALUATION = RECORDS[2021]


def wav(folder: Path, seed: int) -> bytes:
    path = folder / "one.wav"
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 16_000), 16_000)
    return path.read_bytes()


def zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path.read_bytes()


class Zenodo:
    """Fake of Zenodo: files by name for each record number. `requested` collects the requested paths."""

    def __init__(self, folder: Path) -> None:
        train = "section_{}_{}_train_normal_{:04d}_x.wav"
        dev = {f"fan/train/{train.format('00', 'source', i)}": wav(folder, i) for i in range(3)}
        dev["fan/source_test/section_00_source_test_anomaly_0000.wav"] = wav(folder, 3)
        more = {f"fan/train/{train.format('03', 'target', i)}": wav(folder, 10 + i) for i in range(2)}
        test = {"fan/target_test/section_03_target_test_0000.wav": wav(folder, 20)}
        pump = {f"pump/train/{train.format('00', 'source', 0)}": wav(folder, 30)}
        self.records: dict[int, dict[str, bytes]] = {
            DEVELOPMENT: {
                "dev_data_fan.zip": zipped(folder / "1", dev),
                "dev_data_pump.zip": zipped(folder / "2", pump),
                "readme.txt": b"read me",
            },
            ADDITIONAL: {"eval_data_fan_train.zip": zipped(folder / "3", more)},
            EVALUATION: {"eval_data_fan_test.zip": zipped(folder / "4", test)},
        }
        self.md5 = {
            name: hashlib.md5(content).hexdigest() for files in self.records.values() for name, content in files.items()
        }
        self.requested: list[str] = []
        self.cut: set[str] = set()
        self.about: object = {"license": {"id": "made-up-by-nc-1.0"}}
        self.address = ""

    def listing(self, record: int) -> bytes:
        files = [
            {
                "key": name,
                "size": 10**9,
                "checksum": f"md5:{self.md5[name]}",
                "links": {"self": f"{self.address}/files/{record}/{name}"},
            }
            for name in self.records[record]
        ]
        return json.dumps({"files": files, "metadata": self.about}).encode()

    @property
    def requested_files(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for path in self.requested if path.startswith("/files/")]


@pytest.fixture
def zenodo(tmp_path: Path) -> Iterator[Zenodo]:
    (tmp_path / "made").mkdir()
    here = Zenodo(tmp_path / "made")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.requested.append(self.path)
            *_, record, name = self.path.split("/")
            known = self.path.startswith("/files/") or int(name) in here.records
            if not known:
                self.send_error(404)
                return
            body = here.records[int(record)][name] if self.path.startswith("/files/") else here.listing(int(name))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in here.cut else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


def fetched(zenodo: Zenodo, out: Path, *machines: str) -> int:
    return download(out, 2021, machines, records=f"{zenodo.address}/api/records")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow one attempt only, because pooch waits a second between attempts."""
    monkeypatch.setattr(module, "ATTEMPTS", 1)


def test_a_year_ends_in_folders_that_check_accepts(zenodo: Zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fetched(zenodo, tmp_path / "out") == 8
    roots = f"{tmp_path / 'out' / 'dev_data'},{tmp_path / 'out' / 'eval_data'}"
    assert main(["check", "--config", "dcase2021", f"--config.data.root={roots}"]) == 0
    assert "8 clips" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out" / "zips").iterdir()} == {
        "dev_data_fan.zip",
        "dev_data_pump.zip",
        "eval_data_fan_train.zip",
        "eval_data_fan_test.zip",
    }


def test_one_machine_type_and_what_is_here_is_not_downloaded_again(zenodo: Zenodo, tmp_path: Path):
    assert fetched(zenodo, tmp_path / "out", "fan") == 7
    assert sorted(zenodo.requested_files) == ["dev_data_fan.zip", "eval_data_fan_test.zip", "eval_data_fan_train.zip"]
    before = files(tmp_path / "out")
    (tmp_path / "out" / "zips" / "eval_data_fan_test.zip").write_bytes(b"half")
    clip = next((tmp_path / "out" / "dev_data").rglob("*.wav"))
    clip.write_bytes(clip.read_bytes()[:100])
    zenodo.requested.clear()
    assert fetched(zenodo, tmp_path / "out", "fan") == 7
    assert zenodo.requested_files == ["eval_data_fan_test.zip"]
    assert files(tmp_path / "out") == before


def test_other_contents_than_the_record_says_are_refused(zenodo: Zenodo, tmp_path: Path, impatient: None):
    zenodo.md5["eval_data_fan_train.zip"] = "0" * 32
    with pytest.raises(InputError, match=r"eval_data_fan_train.zip: expected md5:0+, got other contents"):
        fetched(zenodo, tmp_path / "out")
    assert "eval_data_fan_train.zip" not in {path.name for path in (tmp_path / "out" / "zips").iterdir()}
    assert not (tmp_path / "out" / "dev_data").exists()


def test_a_cut_connection_leaves_nothing_that_looks_whole(zenodo: Zenodo, tmp_path: Path, impatient: None):
    zenodo.cut.add("dev_data_pump.zip")
    with pytest.raises(InputError, match=r"dev_data_pump.zip: cannot be downloaded .*; run the same command again"):
        fetched(zenodo, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "zips").iterdir()] == ["dev_data_fan.zip"]
    zenodo.cut.clear()
    zenodo.requested.clear()
    assert fetched(zenodo, tmp_path / "out") == 8
    assert "dev_data_fan.zip" not in zenodo.requested_files


def test_a_lost_connection_is_tried_again(zenodo: Zenodo, tmp_path: Path):
    zenodo.cut.add("dev_data_pump.zip")
    threading.Timer(0.5, zenodo.cut.clear).start()
    assert fetched(zenodo, tmp_path / "out", "pump") == 1
    assert zenodo.requested_files == ["dev_data_pump.zip"] * 2


def test_unknown_years_and_machine_types_are_refused_with_those_there_are(zenodo: Zenodo, tmp_path: Path):
    with pytest.raises(InputError, match=r"--machines: expected some of fan, pump; got valve"):
        fetched(zenodo, tmp_path / "out", "valve")
    with pytest.raises(
        InputError, match=r"--year: expected one of 2020, .*2025, got 2026, whose records are not known"
    ):
        download(tmp_path / "out", 2026)
    assert not (tmp_path / "out").exists()


def test_a_record_that_cannot_be_reached_or_read_is_named(zenodo: Zenodo, tmp_path: Path):
    del zenodo.records[EVALUATION]
    with pytest.raises(InputError, match=f"records/{EVALUATION}: cannot be reached .*404"):
        fetched(zenodo, tmp_path / "out")
    with pytest.raises(InputError, match=f"{DEVELOPMENT}: cannot be reached"):
        download(tmp_path / "out", 2021, records="http://127.0.0.1:9/api/records")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dev_data_ToyCar.zip", ("dev_data", "ToyCar", "", 1)),
        ("eval_data_train_ToyConveyor.zip", ("eval_data", "ToyConveyor", "train", 1)),
        ("eval_data_test_fan.zip", ("eval_data", "fan", "test", 1)),
        ("dev_bearing.zip", ("dev_data", "bearing", "", 1)),
        ("eval_data_3DPrinter_train_r2.zip", ("eval_data", "3DPrinter", "train", 2)),
        ("eval_data_RoboticArm_test.zip", ("eval_data", "RoboticArm", "test", 1)),
    ],
)
def test_the_names_of_every_year_s_zips(name: str, expected: tuple):
    (archive,) = module._parse_archives([(name, "", "")])
    assert (archive.folder, archive.machine, archive.part, archive.edition) == expected


def test_of_a_zip_that_was_published_anew_the_last_counts():
    names = ("eval_data_fan_train_r2.zip", "eval_data_fan_train.zip", "eval_data_fan_test.zip")
    assert [archive.name for archive in module._parse_archives((name, "", "") for name in names)] == [
        names[0],
        names[2],
    ]


def test_zips_that_are_here_are_unpacked_without_a_connection(
    zenodo: Zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    zips = tmp_path / "zips"
    zips.mkdir()
    for record in zenodo.records.values():
        for name, content in record.items():
            (zips / name).write_bytes(content)
    assert main(["download", "--zips", str(zips), "--out", str(tmp_path / "out"), "--machines", "fan"]) == 0
    assert "7 clips; next: asdjax check" in capsys.readouterr().out
    assert zenodo.requested == []
    assert main(["download", "--zips", str(tmp_path / "made"), "--out", str(tmp_path / "none")]) == 2
    assert "expected zips such as dev_data_fan.zip" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def linked(path: Path) -> None:
    member = zipfile.ZipInfo("fan/train/link.wav")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(member, "/etc/passwd")


def named(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as out:
            for name in names:
                out.writestr(name, b"x")

    return make


HOSTILE = {
    "above": (named("fan/train/good.wav", "../evil.wav"), "leads out of the folder"),
    "deep above": (named("fan/../../evil.wav"), "leads out of the folder"),
    "from the root": (named("/tmp/evil.wav"), "leads out of the folder"),
    "another system's": (named("C:\\evil.wav"), "leads out of the folder"),
    "unprintable": (named("fan/\x1b[2J.wav"), "or is none"),
    "a link": (linked, "is a link or a device"),
    "too many": (named(*(f"fan/train/{i}.wav" for i in range(12))), "holds 12 files, more than 10"),
    "twice": (named("fan/train/a.wav", "fan/train/A.wav"), "twice"),
    "a bomb": (lambda path: zipped(path, {"fan/train/a.wav": bytes(10**6)}), "would unpack to 1000000 bytes"),
    "cut off": (lambda path: path.write_bytes(zipped(path, {"a.wav": b"x" * 99})[:-30]), "expected a zip archive"),
    "no zip": (lambda path: path.write_bytes(b"<html>"), "expected a zip archive"),
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_or_damaged_zip_is_refused_and_nothing_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], message: str
):
    monkeypatch.setattr(unzip, "MOST_FILES", 10)
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "dev_data_fan.zip")
    before = files(tmp_path)
    with pytest.raises(InputError) as refusal:
        module.unpack_zips(tmp_path / "out", tmp_path / "in")
    assert message in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert files(tmp_path) == before


@pytest.mark.parametrize("clip", [np.random.default_rng(0).bytes(5000), b"hum, " * 1000], ids=["noise", "hum"])
@pytest.mark.parametrize("at", [60, 70])
def test_damage_inside_is_noticed_and_leaves_no_file_under_its_name(tmp_path: Path, clip: bytes, at: int):
    path = tmp_path / "dev_data_fan.zip"
    content = bytearray(zipped(path, {"fan/train/a.wav": clip}))
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a zip archive"):
        module.unpack_zips(tmp_path / "out", tmp_path)
    assert not files(tmp_path / "out")


def test_one_hostile_zip_among_good_ones_and_nothing_is_unpacked(tmp_path: Path):
    zipped(tmp_path / "dev_data_fan.zip", {"fan/train/a.wav": b"x"})
    named("../evil.wav")(tmp_path / "dev_data_pump.zip")
    with pytest.raises(InputError, match="leads out of the folder"):
        module.unpack_zips(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_other_contents_of_the_same_size_replace_what_is_there(zenodo: Zenodo, tmp_path: Path):
    fetched(zenodo, tmp_path / "out", "pump")
    (clip,) = (tmp_path / "out" / "dev_data").rglob("*.wav")
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fetched(zenodo, tmp_path / "out", "pump")
    assert clip.read_bytes() == whole


def test_what_an_ended_download_left_goes(zenodo: Zenodo, tmp_path: Path):
    (tmp_path / "out" / "zips").mkdir(parents=True)
    (tmp_path / "out" / "zips" / "tmpx7f").write_bytes(b"half")
    fetched(zenodo, tmp_path / "out", "pump")
    assert [path.name for path in (tmp_path / "out" / "zips").iterdir()] == ["dev_data_pump.zip"]


@pytest.mark.parametrize("listing", [{"files": []}, {"files": [{"key": "dev_data_../../x.zip", "links": {}}]}, [], {}])
def test_a_record_without_zips_is_refused(
    zenodo: Zenodo, tmp_path: Path, listing: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zenodo, "listing", lambda record: json.dumps(listing).encode())
    with pytest.raises(InputError, match=f"records/{DEVELOPMENT}: expected"):
        fetched(zenodo, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_files_are_left_out_and_it_is_said(zenodo: Zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    zipped(tmp_path / "dev_data_fan.zip", {"fan/train/evil.exe": b"x", "fan/attributes_00.csv": b"file_name\n"})
    with pytest.raises(InputError, match="expected folders of machine types"):
        module.unpack_zips(tmp_path / "out", tmp_path)
    assert "left out 1 file, no recording (such as 'fan/train/evil.exe')" in capsys.readouterr().err
    assert list(files(tmp_path / "out")) == ["dev_data/fan/attributes_00.csv"]


@pytest.mark.parametrize(
    ("about", "licence"),
    [
        ({"license": {"id": "made-up-by-nc-1.0"}}, "licence made-up-by-nc-1.0"),
        ({"license": "made-up"}, "licence made-up"),
        ({"rights": [{"id": "made-up-a"}, {"title": "Made-up B"}]}, "licence made-up-a, Made-up B"),
        ({}, "licence not stated"),
        (None, "licence not stated"),
    ],
)
def test_licence_and_size_of_each_record_are_said_before_anything_is_downloaded(
    zenodo: Zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str], about: object, licence: str, impatient: None
):
    zenodo.about = about
    zenodo.cut.add("dev_data_fan.zip")  # the first file to be requested
    with pytest.raises(InputError, match="cannot be downloaded"):
        fetched(zenodo, tmp_path / "out")
    lines = [line for line in capsys.readouterr().err.splitlines() if "licence" in line]
    assert [licence in line for line in lines] == [True] * 3
    assert [f"records/{record}:" in line for record, line in zip(RECORDS[2021], lines, strict=True)] == [True] * 3
    assert [line.rsplit("; ", 1)[1] for line in lines] == ["2 zips, 2.00 GB", "1 zip, 1.00 GB", "1 zip, 1.00 GB"]


COPIES = ("dev_fan (1).zip", "dev_fan(1).zip", "dev_fan - Copy.zip", "dev_fan - Copy (2).zip", "dev_fan - Kopie.zip")
COPIES += ("dev_fan copy.zip", "dev_fan copy 2.ZIP", "Copy of dev_fan.zip", "dev_data_fan (3).zip", "dev_fan.Zip")
COPIES += ("dev_fan-1.zip", "dev_fan_(1).zip", "dev_fan.zip.1")


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_that_a_browser_or_file_manager_has_renamed_is_unpacked(tmp_path: Path, name: str):
    (tmp_path / "zips").mkdir()
    zipped(tmp_path / "zips" / name, {"fan/train/section_00_source_train_normal_0000_x.wav": b"x"})
    assert module.unpack_zips(tmp_path / "out", tmp_path / "zips") == 1


def test_what_is_passed_over_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    zips = tmp_path / "zips"
    zips.mkdir()
    for name in ("dev_fan (1).zip", "dev_fan.zip"):
        zipped(zips / name, {"fan/train/section_00_source_train_normal_0000_x.wav": name.encode()})
    for name in ("dev_gearbox.zip.crdownload", "dev_pump.zip.part", "holiday.zip", "readme.txt", ".DS_Store"):
        (zips / name).write_bytes(b"PK")
    (zips / "dev_valve.zip").mkdir()
    assert module.unpack_zips(tmp_path / "out", zips) == 1
    (clip,) = files(tmp_path / "out").values()
    assert clip == b"dev_fan.zip"
    log = capsys.readouterr().err
    for name, reason in (
        ("dev_gearbox.zip.crdownload", "has not ended"),
        ("dev_pump.zip.part", "has not ended"),
        ("holiday.zip", "not the name"),
        ("readme.txt", "not the name"),
        ("dev_fan (1).zip", "second copy"),
        ("dev_valve.zip", "folder"),
    ):
        assert reason in log.split(f"'{name}' (")[1].split(")")[0]
    assert ".DS_Store" not in log


def test_a_zip_of_another_year_is_named_and_nothing_unpacked(tmp_path: Path):
    zips = tmp_path / "zips"
    zips.mkdir()
    zipped(zips / "dev_data_fan.zip", {"fan/source_test/section_00_source_test_normal_0000.wav": b"x"})
    zipped(zips / "eval_data_fan_train.zip", {"fan/train/section_03_source_train_normal_0000_x.wav": b"x"})
    assert module.unpack_zips(tmp_path / "out", zips) == 2
    before = files(tmp_path / "out")
    for year, inside in (
        ("2020", "pump/train/normal_id_00_00000000.wav"),
        ("2022 or later", "pump/test/section_00_source_test_normal_0000_a_1.wav"),
    ):
        zipped(zips / "dev_data_pump.zip", {inside: b"x"})
        expected = rf"dev_data_pump\.zip: expected recordings of one year, got names of {year} here and of 2021 in"
        for machines in ((), ("pump",)):
            with pytest.raises(InputError, match=expected):
                module.unpack_zips(tmp_path / "out", zips, machines)
        assert files(tmp_path / "out") == before
