"""Tests of names in either composition, and of `~`, in every place for a path or a name."""

import argparse
from pathlib import Path
from unicodedata import normalize

import pytest
import soundfile
from conftest import PROJECT

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.layouts import read_corpus
from asdjax.errors import InputError
from asdjax.evaluation.submission import read
from asdjax.runtime.paths import compose, find_spelling, resolve_path

WRITTEN = pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
NAME = "Lüfter"


def form(name: str, text: str) -> str:
    return normalize(name, text)  # pyright: ignore[reportArgumentType]


@WRITTEN
def test_a_path_is_found_however_its_letters_are_composed(tmp_path: Path, on_disk: str, written: str):
    there = tmp_path / form(on_disk, "Geräte") / form(on_disk, f"{NAME} 1.wav")
    there.parent.mkdir()
    there.touch()
    assert find_spelling(Path(form(written, str(there)))) == there
    for rest in ("ö.wav", "new/folder"):
        missing = tmp_path / form(written, "Geräte") / rest
        assert find_spelling(missing) == there.parent / rest
    missing = tmp_path / form(written, "Ämter") / "ö.wav"
    assert find_spelling(missing) == missing


def test_of_two_names_that_differ_in_composition_the_one_that_is_written_is_taken(tmp_path: Path):
    for name in ("NFC", "NFD"):
        (tmp_path / form(name, NAME)).touch()
    for name in ("NFC", "NFD"):
        assert find_spelling(tmp_path / form(name, NAME)) == tmp_path / form(name, NAME)


@WRITTEN
def test_a_manifest_lists_files_in_the_other_composition(tmp_path: Path, on_disk: str, written: str):
    (tmp_path / form(on_disk, f"{NAME} 1.wav")).touch()
    (tmp_path / form(on_disk, f"{NAME} 2.wav")).touch()
    rows = [f"{NAME} 1.wav,{NAME},läuft,,train,,größe=ä", f"{NAME} 2.wav,{NAME},läuft,,test,anomaly,"]
    table = "\n".join(["path,machine,section,domain,split,label,attributes", *rows])
    (tmp_path / "manifest.csv").write_text(form(written, table))
    corpus = read_corpus([tmp_path], machines=[form(on_disk, NAME)])
    assert [clip.path.is_file() for clip in corpus] == [True, True]
    assert corpus.machines == (NAME,)
    assert [clip.name for clip in corpus] == [f"{NAME} 1.wav", f"{NAME} 2.wav"]
    assert {clip.section for clip in corpus} == {"läuft"}
    assert corpus.clips[0].attributes == (("größe", "ä"),)


@WRITTEN
def test_machine_folders_tables_and_truth_are_joined_in_any_composition(tmp_path: Path, on_disk: str, written: str):
    name = "section_00_source_train_normal_0000_öl_ä.wav"
    home = tmp_path / "data" / form(on_disk, NAME)
    (home / "train").mkdir(parents=True)
    (home / "test").mkdir()
    (home / "train" / form(on_disk, name)).touch()
    (home / "test" / "section_00_0000.wav").touch()
    (home / "attributes_00.csv").write_text(form(written, f"file_name,d1p,d1v\n{name},Öl,viel\n"))
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / form(written, f"ground_truth_{NAME}_section_00_test.csv")).write_text("section_00_0000.wav,1\n")
    train, test = read_corpus([tmp_path / "data"], machines=[form(written, NAME)], truth=truth)
    assert (train.machine, train.attributes) == (NAME, (("Öl", "viel"),))
    assert test.label == "anomaly"


@WRITTEN
def test_score_files_and_truth_are_joined_in_any_composition(tmp_path: Path, on_disk: str, written: str):
    names = [f"{NAME} 1.wav", f"{NAME} 2.wav"]
    for folder, prefix, how in (("scores", "anomaly_score", on_disk), ("truth", "ground_truth", written)):
        (tmp_path / folder).mkdir()
        rows = "".join(f"{name},{value}\n" for value, name in enumerate(names))
        file = tmp_path / folder / form(how, f"{prefix}_{NAME}_section_Süd_source_test.csv")
        file.write_text(form(how, rows))
    clips = read(tmp_path / "scores", 2021, tmp_path / "truth")
    assert [(clip.machine, clip.section, clip.name, clip.label) for clip in clips] == [
        (NAME, "Süd", names[0], "normal"),
        (NAME, "Süd", names[1], "anomaly"),
    ]


@WRITTEN
def test_check_takes_roots_and_machine_types_in_the_other_composition(
    tmp_path: Path, on_disk: str, written: str, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / form(on_disk, "Töne")
    root.mkdir()
    for i in range(2):
        soundfile.write(root / f"{i}.wav", [0.1 * i, 0.2] * 16_000, 16_000, subtype="PCM_16")
    rows = "".join(f"{i}.wav,{NAME},u{i},,train,,\n" for i in range(2))
    (root / "manifest.csv").write_text(f"path,machine,section,domain,split,label,attributes\n{rows}")
    words = [f"--config.data.root={tmp_path / form(written, 'Töne')}", f"--config.data.machines={form('NFD', NAME)}"]
    assert main(["check", "--config", "own_machines", *words]) == 0
    assert "2 clips" in capsys.readouterr().out


def test_a_tilde_is_the_home_folder_in_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fields = {"data.root": "~/a,~/b", "data.truth": "~/t", "data.store": "~/s"}
    config = loading.load(str(PROJECT / "configs" / "dcase2021.py"), fields)
    assert config.data.root == (f"{tmp_path}/a", f"{tmp_path}/b")
    assert (config.data.truth, config.data.store) == (f"{tmp_path}/t", f"{tmp_path}/s")
    loading.make_absolute(config)
    loading.save(config, tmp_path)
    again = loading.read(tmp_path, {"data.store": "~/elsewhere"})
    assert again.data.store == f"{tmp_path}/elsewhere"


def test_a_tilde_in_a_configuration_file_and_in_its_own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "from asdjax.config.fields import default_config\n\ndef get_config():\n    config = default_config()\n"
    (tmp_path / "mine.py").write_text(f"{text}    config.data.root = ('~/data',)\n    return config\n")
    assert loading.load("~/mine.py", {}).data.root == (f"{tmp_path}/data",)


def test_a_tilde_is_the_home_folder_in_every_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    size = ["--machines", "fan", "--sections", "2", "--source-clips", "1", "--target-clips", "1"]
    assert main(["synthesize", "--out=~/x", *size, "--test-clips", "1", "--seconds", "2"]) == 0
    assert main(["check", "--config=dcase2021", "--config.data.root=~/x", "--json=~/found.json"]) == 0
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["found.json", "x"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config=dcase2021"],
        ["evaluate"],
        ["report"],
        ["demo"],
        ["score", "--machine=m", "--section=s", "c.wav"],
        ["export", "--out=o"],
    ],
)
def test_every_work_directory_is_taken_from_the_home_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, words: list[str]) -> None:
        assert parse(parser, words).workdir == tmp_path / "run"
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(SystemExit):
        main([words[0], "--workdir=~/run", *words[1:]])


def test_a_home_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(InputError, match="expected a home folder for ~, got none"):
        resolve_path("~no-such-user/x")
    with pytest.raises(SystemExit) as ended:
        main(["synthesize", "--out=~no-such-user/x"])
    assert ended.value.code == 2
    assert "expected a home folder" in capsys.readouterr().err
    assert main(["check", "--config=dcase2021", "--config.data.root=~no-such-user/x"]) == 2


def test_names_that_are_no_text_are_left_as_they_are():
    assert compose("a\udce9") == "a\udce9"
