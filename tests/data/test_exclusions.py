"""Clips left out by name: `config.data.exclude`."""

import shutil
from pathlib import Path

import pytest
from conftest import shallow_networks

from asdjax.cli.main import main
from asdjax.data.layouts import read_corpus
from asdjax.errors import InputError

NAMES = [
    f"{machine}/{folder}/section_0{section}_source_{split}_normal_000{number}.wav"
    for machine in ("fan", "pump")
    for folder, split in (("train", "train"), ("source_test", "test"))
    for section in (0, 1)
    for number in (0, 1)
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def names(root: Path, exclude: Path, machines: tuple[str, ...] = ()) -> list[str]:
    clips = read_corpus([root], machines=machines, exclude=exclude)
    return sorted(str(clip.path.relative_to(root)) for clip in clips)


def test_named_clips_are_left_out_and_no_others(root: Path, tmp_path: Path):
    file = tmp_path / "exclude.txt"
    file.write_text(f"# heard a rattle\n\n  {NAMES[0]}  \n{root / NAMES[6]}\r\n")
    assert names(root, file) == sorted(name for name in NAMES if name not in (NAMES[0], NAMES[6]))
    file.write_text("\ufeff# begins with a byte order mark, and names nothing\n")
    assert names(root, file) == sorted(NAMES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/section_09.wav", "line 2: expected one recording named train/section_09.wav, got none"),
        (Path(NAMES[0]).name, r"got 2 \(.*fan.*, .*pump.*\); give its folders too"),
        ("ain/" + Path(NAMES[0]).name, "got none; correct the line"),
        (".", "named ., got none"),
        ("/", "named /, got none"),
    ],
)
def test_a_line_names_one_clip(root: Path, tmp_path: Path, line: str, message: str):
    file = tmp_path / "exclude.txt"
    file.write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=message):
        names(root, file)


def test_a_name_that_is_unique_needs_no_folder_and_other_machine_types_may_be_named(root: Path, tmp_path: Path):
    file = tmp_path / "exclude.txt"
    file.write_text(f"{Path(NAMES[0]).name}\n{NAMES[-1]}\n")
    assert names(root, file, ("fan",)) == sorted(name for name in NAMES[:8] if name != NAMES[0])
    file.write_text("fan/train/misspelt.wav\n")
    with pytest.raises(InputError, match="got none"):
        names(root, file, ("fan",))


def test_paths_count_from_the_current_folder_and_the_root_may_be_relative(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "exclude.txt").write_text(f"{root / NAMES[0]}\n../{tmp_path.name}/data/{NAMES[1]}\n~/data/{NAMES[2]}\n")
    kept = read_corpus(["data"], exclude="exclude.txt")
    assert sorted(str(clip.path.relative_to("data")) for clip in kept) == sorted(NAMES[3:])


def test_a_recording_whose_name_cannot_be_read_can_be_left_out(root: Path, tmp_path: Path):
    (root / "fan" / "train" / "rattle.wav").touch()
    with pytest.raises(InputError, match=r"rattle\.wav"):
        read_corpus([root])
    (tmp_path / "exclude.txt").write_text("rattle.wav")
    assert names(root, tmp_path / "exclude.txt") == sorted(NAMES)


def test_two_clips_of_one_name_are_one_without_the_other(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder / "fan" / "source_test").mkdir(parents=True)
        (tmp_path / folder / "fan" / "source_test" / "section_00_source_test_normal_0000.wav").touch()
    (tmp_path / "exclude.txt").write_text("b/fan/source_test/section_00_source_test_normal_0000.wav")
    with pytest.raises(InputError, match="same machine type, section and name"):
        read_corpus([tmp_path / "a", tmp_path / "b"])
    assert len(read_corpus([tmp_path / "a", tmp_path / "b"], exclude=tmp_path / "exclude.txt")) == 1


def test_a_file_that_cannot_be_read_is_refused_in_a_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for content in (None, b"\xff\xfe\xff"):
        if content:
            (tmp_path / "exclude.txt").write_bytes(content)
        words = ["check", "--config", "own_machines", "--config.data.layout=auto", f"--config.data.root={root}"]
        assert main([*words, f"--config.data.exclude={tmp_path / 'exclude.txt'}"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "exclude.txt: expected a text file with a recording per line" in error
        assert "set config.data.exclude" in error


def test_an_excluded_clip_is_not_checked(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    root = Path(shutil.copytree(corpus, tmp_path / "data"))
    broken = min((root / "fan" / "train").glob("*source*.wav"))
    broken.write_bytes(b"no sound")
    (tmp_path / "exclude.txt").write_text(f"fan/train/{broken.name}\n")
    words = ["check", "--config", "dcase2021", f"--config.data.root={root}"]
    assert main(words) == 2
    assert broken.name in capsys.readouterr().out
    assert main([*words, f"--config.data.exclude={tmp_path / 'exclude.txt'}"]) == 0
    assert broken.name not in capsys.readouterr().out


def test_models_are_of_their_clips_and_test_clips_may_be_left_out_later(
    trained_once: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    workdir = Path(shutil.copytree(trained_once, tmp_path / "run"))
    left_out = tmp_path / "exclude.txt"
    words = ["evaluate", "--workdir", str(workdir), f"--config.data.exclude={left_out}"]
    left_out.write_text(min((corpus / "fan" / "train").glob("*source*.wav")).name)
    assert main(words) == 2
    assert "expected the training clips of this fleet as they were, got others: " in capsys.readouterr().err
    test_clip = min((corpus / "fan" / "source_test").glob("*.wav")).name
    left_out.write_text(test_clip)
    with shallow_networks():
        assert main(words) == 0
    (table,) = (workdir / "evaluation" / "dev" / "clips").glob("all_mean.csv")
    assert test_clip not in table.read_text()
    assert test_clip in (trained_once / "evaluation" / "dev" / "clips" / "all_mean.csv").read_text()
