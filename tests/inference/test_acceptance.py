"""Clips accepted in service: banks and thresholds compared with those of an evaluation that has the clips."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import shallow_networks

import asdjax
from asdjax import Detector, InputError
from asdjax.cli.main import main
from asdjax.data import feedback

pytestmark = pytest.mark.usefixtures("shallow")

RATE = 16_000


@pytest.fixture(scope="module")
def evaluated_once(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of an evaluation whose system has models and simple detectors."""
    workdir = shutil.copytree(trained_once, tmp_path_factory.mktemp("accept") / "run")
    with shallow_networks():
        asdjax.evaluate(workdir, overrides={"evaluate.system": "combined"})
    return workdir


@pytest.fixture
def workdir(evaluated_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(evaluated_once, tmp_path / "run")


def write_clips(folder: Path, number: int = 3) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"clip {i}.wav" for i in range(number)]
    for i, path in enumerate(paths):
        soundfile.write(path, 0.05 * np.random.default_rng(i).normal(size=2 * RATE), RATE)
    return paths


def load(workdir: Path) -> Detector:
    return asdjax.load(workdir, machine="fan", section="00")


def hash_files(workdir: Path) -> dict[str, str]:
    return {
        str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in workdir.rglob("*")
        if path.is_file() and feedback.FOLDER not in path.parts
    }


def test_scores_are_those_of_an_evaluation_that_has_the_clips(workdir: Path, tmp_path: Path, corpus: Path):
    clips, new = write_clips(tmp_path / "normal"), min(corpus.rglob("fan/source_test/*section_00*.wav"))
    detector, files = load(workdir), hash_files(workdir)
    earlier, seen = detector.score(new), detector.score(clips[0])
    of_other_section = asdjax.load(workdir, machine="fan", section="01").score(new).score
    acceptance = detector.accept(clips)
    assert hash_files(workdir) == files
    assert [acceptance.before.scores[0], acceptance.before.threshold.value] == [seen.score, earlier.threshold]
    assert acceptance.after.threshold.clips == acceptance.before.threshold.clips + 3
    later, loaded = detector.score(new), load(workdir).score(new)
    assert later == loaded != earlier
    assert asdjax.load(workdir, machine="fan", section="01").score(new).score == of_other_section
    assert acceptance.after.threshold.value == later.threshold
    results = asdjax.evaluate(workdir, overrides={"evaluate.system": "combined"})
    assert [(one["section"], one["clip"]) for one in results.content["accepted"]] == [
        ("00", clip.name) for clip in clips
    ]
    assert "accepted in service: fan 00 (3)" in results.table
    found = load(workdir).score(new)
    assert [found.score, found.threshold] == pytest.approx([later.score, later.threshold], rel=1e-5)


def test_an_undone_acceptance_leaves_no_trace(workdir: Path, tmp_path: Path, corpus: Path):
    clips, new = write_clips(tmp_path / "normal"), min(corpus.rglob("fan/source_test/*section_00*.wav"))
    files, earlier = hash_files(workdir), load(workdir).score(new)
    load(workdir).accept(clips[:1])
    load(workdir).accept(clips[1:])
    assert [len(asdjax.undo_accept(workdir).clips) for _ in range(2)] == [2, 1]
    assert load(workdir).score(new) == earlier
    with pytest.raises(InputError, match="expected something to undo, got no accept that is in force"):
        asdjax.undo_accept(workdir)
    asdjax.evaluate(workdir, overrides={"evaluate.system": "combined"})
    assert hash_files(workdir) == files
    lines = (workdir / feedback.FOLDER / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["accept", "accept", "undo", "undo"]


def test_an_acceptance_that_was_evaluated_can_be_undone(workdir: Path, tmp_path: Path, corpus: Path):
    clips, new = write_clips(tmp_path / "normal"), min(corpus.rglob("fan/source_test/*section_00*.wav"))
    earlier = load(workdir).score(new)
    load(workdir).accept(clips)
    asdjax.evaluate(workdir, overrides={"evaluate.system": "combined"})
    asdjax.undo_accept(workdir)
    found = load(workdir).score(new)
    assert [found.score, found.threshold] == pytest.approx([earlier.score, earlier.threshold], rel=1e-6)
    assert main(["report", "--workdir", str(workdir)]) == 0  # of the evaluation, with the sound of its clips


def test_an_acceptance_can_move_to_another_section_after_an_evaluation(workdir: Path, tmp_path: Path, corpus: Path):
    clips, new = write_clips(tmp_path / "normal"), min(corpus.rglob("fan/source_test/*section_00*.wav"))
    sections = ("00", "01")
    earlier = [asdjax.load(workdir, machine="fan", section=section).score(new).score for section in sections]
    load(workdir).accept(clips)
    asdjax.evaluate(workdir, overrides={"evaluate.system": "combined"})
    asdjax.undo_accept(workdir)
    asdjax.load(workdir, machine="fan", section="01").accept(clips)
    found = [asdjax.load(workdir, machine="fan", section=section).score(new).score for section in sections]
    assert found[0] == pytest.approx(earlier[0], rel=1e-6)
    assert found[1] != pytest.approx(earlier[1], rel=1e-3)


def test_any_file_name_is_kept(workdir: Path, tmp_path: Path):
    (clip,) = write_clips(tmp_path / "normal", 1)
    odd = clip.rename(clip.with_name("a\u2028b.wav"))
    load(workdir).accept([odd])
    assert load(workdir).threshold > 0
    with pytest.raises(InputError, match="expected a list of clips, got a single one"):
        load(workdir).accept(clip)  # pyright: ignore[reportArgumentType]


def test_a_folder_without_a_line_is_not_overwritten(workdir: Path, tmp_path: Path):
    (workdir / feedback.FOLDER / "7").mkdir(parents=True)
    assert load(workdir).accept(write_clips(tmp_path / "normal", 1)).judgement.number == 8


def test_a_clip_that_is_known_is_refused_and_none_is_accepted(workdir: Path, tmp_path: Path, corpus: Path):
    known = min(corpus.rglob("fan/train/*section_00*.wav"))
    clips = write_clips(tmp_path / "normal", 2)
    with pytest.raises(InputError, match=rf"{known.stem}.wav: expected a clip that is in no bank yet, got the samples"):
        load(workdir).accept([*clips, known])
    with pytest.raises(InputError, match=r"clip 0-2.wav: .* got the samples of clip 0.wav"):
        load(workdir).accept([clips[0], clips[0]])
    assert not list((workdir / feedback.FOLDER).glob("*.jsonl"))
    load(workdir).accept(clips)
    with pytest.raises(InputError, match=r"got the samples of .*1/clip 0.wav of section 00"):
        load(workdir).accept(clips[:1])


def test_kept_embeddings_are_used_and_damaged_ones_computed_again(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clips = write_clips(tmp_path / "normal", 1)
    load(workdir).accept(clips)
    threshold = load(workdir).threshold
    with monkeypatch.context() as patch:
        patch.setattr("asdjax.inference.extended_bank._embed", lambda *_: pytest.fail("computed"))
        assert load(workdir).threshold == threshold
    for file in (workdir / feedback.FOLDER).rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    assert load(workdir).threshold == threshold


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "1" / "clip 0.wav").unlink(), "expected a recording of judgement 1, got none"),
        (lambda folder: shutil.copy(folder / "1" / "clip 1.wav", folder / "1" / "clip 0.wav"), "got others; undo it"),
        (lambda folder: (folder / "journal.jsonl").write_text("{}\n"), "line 1: expected a judgement"),
    ],
    ids=["missing", "another", "journal"],
)
def test_damage_is_named(damage, message: str, workdir: Path, tmp_path: Path):
    load(workdir).accept(write_clips(tmp_path / "normal", 2))
    damage(workdir / feedback.FOLDER)
    with pytest.raises(InputError, match=message):
        load(workdir)


def test_the_command(workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clips = [str(clip) for clip in write_clips(tmp_path / "normal")]
    words = ["accept", "--workdir", str(workdir)]
    capsys.readouterr()
    assert main([*words, "--machine", "fan", "--section", "00", "--domain", "target", *clips]) == 0
    captured = capsys.readouterr()
    assert "fan 00 target: 3 clips accepted; above the threshold were " in captured.out
    assert f"asdjax accept --workdir {workdir} --undo" in captured.out
    assert main(["score", "--workdir", str(workdir), "--machine", "fan", "--section", "00", clips[0]]) == 0
    assert "banks differ from those of the evaluation (3 clips accepted since); run asdjax" in capsys.readouterr().err
    assert main([*words, "--undo"]) == 0
    assert "fan 00: the acceptance of 3 clips is undone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--undo", "a.wav"], "--undo: expected no clips, got a.wav"),
        (["--undo"], "expected something to undo"),
        (["--undo", "--section", "00"], "--section: expected none with --undo"),
        (["a.wav"], "--machine: expected a machine type, got none"),
        (["--machine", "fan", "--section", "00"], "CLIP: expected recordings that were found normal, got none"),
        (["--machine", "fan", "a.wav"], "section: expected one of 00, 01 of fan, got none"),
        (["--machine", "fan", "--section", "00", "nowhere.wav"], "nowhere.wav"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str, workdir: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["accept", "--workdir", str(workdir), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (workdir / feedback.FOLDER).exists()
