"""Check: one bad file for each kind of bad input, and the text of the findings."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.data.audio import Decoding, OnMismatch
from asdjax.data.check import check_corpus
from asdjax.data.findings import CheckResult, Finding, as_json, format_table
from asdjax.data.layouts import scan
from asdjax.errors import InputError

LEAST_SAMPLES = 2000


def checked(
    *roots: Path, on_mismatch: OnMismatch = "error", layout: str = "auto", classes: str = "machine_section_attributes"
) -> CheckResult:
    decoding = Decoding(16_000, on_mismatch)
    return check_corpus(
        scan(roots, layout), decoding, classes=classes, least_samples=LEAST_SAMPLES, threshold_per="machine"
    )


def noise(seed: int, samples: int = LEAST_SAMPLES) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


TRAIN = "fan/train/section_00_source_train_normal_{0:04d}_{0}.wav"
NAMES = [
    TRAIN.format(0),
    TRAIN.format(1),
    "fan/train/section_00_target_train_normal_0000_x.wav",
    "fan/source_test/section_00_source_test_normal_0000.wav",
    "fan/source_test/section_00_source_test_anomaly_0000.wav",
    "fan/target_test/section_00_target_test_0000.wav",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a small corpus without any problem."""
    for seed, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, noise(seed), 16_000)
    return tmp_path


def the_finding(result: CheckResult) -> Finding:
    (finding,) = result.findings
    return finding


def test_a_good_corpus_has_no_findings(root: Path):
    result = checked(root)
    assert result.findings == ()
    counts = [(c.section, c.split, c.domain, c.label, c.clips) for c in result.counts]
    assert counts == [
        ("00", "train", "source", "normal", 2),
        ("00", "train", "target", "normal", 1),
        ("00", "test", "source", "anomaly", 1),
        ("00", "test", "source", "normal", 1),
        ("00", "test", "target", None, 1),
    ]


def test_real_uav_clips_have_no_findings(shared_data: Path):
    result = checked(shared_data / "sounds" / "uav")
    assert result.findings == ()
    assert sum(count.clips for count in result.counts) == 406


BAD_FILES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-10]), "error", "truncated"),
    "header only": (lambda path: path.write_bytes(path.read_bytes()[:44]), "error", "truncated"),
    "empty data": (lambda path: soundfile.write(path, noise(9, 0), 16_000), "error", "no samples"),
    "FLAC": (lambda path: path.write_bytes(b"fLaC\0\0\0\x22"), "error", "FLAC"),
    "HTML": (lambda path: path.write_bytes(b"<html>not found</html>"), "error", "HTML"),
    "24 bits": (lambda path: soundfile.write(path, noise(9), 16_000, "PCM_24"), "error", "pcm24"),
    "rate": (lambda path: soundfile.write(path, noise(9, 9000), 44_100), "error", "44100 Hz"),
    "stereo": (lambda path: soundfile.write(path, noise(9, 4000).reshape(-1, 2), 16_000), "error", "2 channels"),
    "short": (lambda path: soundfile.write(path, noise(9, LEAST_SAMPLES - 1), 16_000), "error", "shorter"),
    "silent": (lambda path: soundfile.write(path, 0 * noise(9), 16_000), "warning", "silent"),
    "one value": (lambda path: soundfile.write(path, 0 * noise(9) + 0.3, 16_000), "warning", "silent"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gives_one_finding_that_names_it(root: Path, kind: str):
    spoil, severity, problem = BAD_FILES[kind]
    path = root / TRAIN.format(1)
    spoil(path)
    finding = the_finding(checked(root))
    assert (finding.severity, finding.where) == (severity, str(path))
    assert problem in finding.what
    assert finding.remedy


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_an_error_even_where_the_rest_is_converted(root: Path, bad: float):
    path = root / TRAIN.format(1)
    soundfile.write(path, np.append(noise(9), bad), 16_000, "FLOAT")
    result = checked(root, on_mismatch="convert")
    assert [finding.severity for finding in result.findings] == ["error", "note"]
    assert "NaN or infinite" in result.findings[0].what


def test_samples_beyond_full_scale_are_a_warning_as_conversion_clips_them(root: Path):
    path = root / TRAIN.format(1)
    values = 0.1 * np.random.default_rng(0).standard_normal(LEAST_SAMPLES)
    values[: LEAST_SAMPLES // 4] = -1.01
    soundfile.write(path, values, 16_000, "FLOAT")
    warning, note = checked(root, on_mismatch="convert").findings
    assert (warning.severity, warning.where, note.severity) == ("warning", str(path), "note")
    assert warning.what == "25.00 % of its samples are at full scale or beyond, where they are clipped"


def test_an_overloaded_recording_is_a_warning(root: Path):
    path = root / TRAIN.format(1)
    soundfile.write(path, np.clip(4 * noise(9, 8000), -1, 1), 16_000)
    warning = the_finding(checked(root))
    assert (warning.severity, warning.where) == ("warning", str(path))
    assert warning.what.startswith("50.")
    soundfile.write(path, np.clip(noise(9, 8000) * 2 * (1 - 2e-4), -1, 1), 16_000)
    assert checked(root).findings == ()


def test_what_is_converted_is_a_note_and_is_measured_after_conversion(root: Path):
    soundfile.write(root / TRAIN.format(0), noise(8, 6000), 48_000)
    soundfile.write(root / TRAIN.format(1), noise(9, 5990), 48_000)
    result = checked(root, on_mismatch="convert")
    short = [finding.where for finding in result.errors if "shorter" in finding.what]
    assert short == [str(root / TRAIN.format(1))]
    assert Counter(finding.severity for finding in result.findings) == {"note": 2, "error": 1}


def test_a_broken_link_is_an_error(root: Path):
    (root / TRAIN.format(7)).symlink_to(root / "nowhere")
    assert "expected a recording, got" in the_finding(checked(root)).what


def test_names_that_do_not_parse_are_all_listed(root: Path):
    strays = [root / "fan/train/a.wav", root / "fan/train/b.wav"]
    for path in strays:
        path.touch()
    result = checked(root)
    assert [finding.where for finding in result.errors] == [str(path) for path in strays]


def test_files_that_the_layout_has_no_place_for_are_notes(root: Path):
    (root / "fan" / "supplemental").mkdir()
    assert the_finding(checked(root)).severity == "note"


def test_files_that_are_read_though_odd_are_warnings_that_name_them(root: Path):
    path = root / TRAIN.format(1)
    soundfile.write(path, noise(9), 16_000, format="FLAC", subtype="PCM_16")
    finding = the_finding(checked(root))
    assert (finding.severity, finding.where, finding.remedy) == ("warning", str(path), "rename it")
    assert finding.what == "named .wav, but FLAC by its content"


def test_lossy_files_are_errors_or_a_warning_and_a_note(root: Path):
    path = (root / TRAIN.format(1)).with_suffix(".ogg")
    (root / TRAIN.format(1)).unlink()
    soundfile.write(path, noise(9), 16_000, format="OGG", subtype="VORBIS")
    error, caution = checked(root).findings
    assert (error.severity, error.where, caution.severity) == ("error", str(path), "warning")
    assert error.what.startswith("Ogg Vorbis, lossy")
    warning, note = checked(root, on_mismatch="convert").findings
    assert (warning.severity, note.severity) == ("warning", "note")
    assert "removes quiet and high sounds, which may show faults" in warning.what


def test_one_name_in_two_formats_of_a_manifest_is_a_warning(tmp_path: Path):
    rows = ["path,machine,section,split", "a.wav,fan,left,train", "a.flac,fan,left,train", "b.flac,fan,right,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    for name in ("a.wav", "a.flac", "b.flac"):
        soundfile.write(tmp_path / name, noise(ord(name[0])), 16_000)
    (warning,) = (finding for finding in checked(tmp_path).findings if finding.severity != "note")
    assert warning.severity == "warning"
    assert warning.what == "the same name in two formats: they count as two clips"


def test_names_without_an_ending_of_audio_are_no_formats_of_one_name(tmp_path: Path):
    rows = ["path,machine,section,split", "rec.1,fan,left,train", "rec.2,fan,left,train", "rec.3,fan,right,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    for i in range(1, 4):
        soundfile.write(tmp_path / f"rec.{i}", noise(i), 16_000, format="WAV")
    assert {finding.severity for finding in checked(tmp_path).findings} == {"note"}


def test_a_dvc_pointer_beside_recordings_is_named(root: Path):
    (root / f"{TRAIN.format(5)}.dvc").write_text("outs:\n- path: a.wav\n")
    finding = the_finding(checked(root))
    assert (finding.severity, finding.remedy) == ("warning", "fetch it with dvc pull")


def test_a_clip_in_two_roots_is_an_error(root: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    (other / "fan" / "train").mkdir(parents=True)
    soundfile.write(other / TRAIN.format(0), noise(77), 16_000)
    assert "same machine type, section and name" in the_finding(checked(root, other)).what


def test_the_same_contents_twice_are_a_warning_and_across_training_and_test_an_error(root: Path):
    soundfile.write(root / TRAIN.format(1), noise(0), 16_000)
    finding = the_finding(checked(root))
    assert finding.severity == "warning"
    assert finding.where == f"{root / TRAIN.format(1)} = {root / TRAIN.format(0)}"
    soundfile.write(root / NAMES[5], noise(0), 16_000)
    across, twice = checked(root).findings
    assert (across.severity, across.where) == ("error", f"{root / NAMES[5]} = {root / TRAIN.format(0)}")
    assert twice == finding


def test_the_same_contents_in_training_clips_of_two_sections_are_an_error_that_names_both(root: Path):
    other = root / TRAIN.format(3).replace("section_00", "section_01")
    soundfile.write(other, noise(0), 16_000)
    (error,) = checked(root).errors
    assert error.where == f"{other} = {root / TRAIN.format(0)}"
    assert "training clips of two sections" in error.what


MANIFEST = """path,machine,section,domain,split
a.wav,fan,left,,train
b.wav,fan,right,,train
a.wav,fan,right,,train
b.wav,fan,right,,test
c.wav,fan,left,,train
c.wav,fan,left,,train
"""


def test_what_a_manifest_lists_twice_is_named_by_lines(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    for seed, name in enumerate("abc"):
        soundfile.write(tmp_path / f"{name}.wav", noise(seed), 16_000)
    a, b, c = (tmp_path / f"{name}.wav" for name in "abc")
    found = [
        (f.where, f.what.split(":")[0])
        for f in checked(tmp_path).findings
        if f.severity != "note" and f.where.startswith(str(tmp_path))
    ]
    assert sorted(found) == [
        (
            f"{a} (manifest.csv line 4: fan right, train) = {a} (manifest.csv line 2: fan left, train)",
            "same contents among the training clips of two sections, which a model has to distinguish",
        ),
        (
            f"{b} (manifest.csv line 5: fan right, test) = {b} (manifest.csv line 3: fan right, train)",
            "same contents among training and test clips",
        ),
        (
            f"{c} (manifest.csv line 7: fan left, train) = {c} (manifest.csv line 6: fan left, train)",
            "same machine type, section and name",
        ),
    ]


def test_a_section_of_target_training_clips_only_is_a_warning_of_its_own(root: Path):
    soundfile.write(root / "fan/train/section_02_target_train_normal_0000_x.wav", noise(9), 16_000)
    finding = the_finding(checked(root))
    assert (finding.severity, finding.where) == ("warning", "fan section 02")
    assert "no source training clips" in finding.what
    assert finding.remedy.startswith("add source training clips")


def test_sections_without_training_or_target_clips(root: Path):
    (root / NAMES[2]).unlink()
    finding = the_finding(checked(root))
    assert (finding.severity, finding.where) == ("note", "fan section 00")
    assert "no target" in finding.what

    soundfile.write(root / "fan/source_test/section_03_source_test_0000.wav", noise(9), 16_000)
    assert [(f.severity, f.where) for f in checked(root).findings] == [
        ("warning", "fan section 03"),
        ("note", "fan section 00"),
    ]
    for name in NAMES[:2]:
        (root / name).unlink()
    assert {(f.severity, f.where) for f in checked(root).findings} == {
        ("warning", "fan section 03"),
        ("warning", "fan section 00"),
        ("error", "training"),
    }


def test_a_test_cell_of_one_class_is_a_warning(root: Path):
    (root / NAMES[4]).unlink()
    finding = the_finding(checked(root))
    assert (finding.severity, finding.where) == ("warning", "fan section 00 source test")
    assert "only normal" in finding.what


def test_from_2022_a_cell_has_the_anomalies_of_both_domains(tmp_path: Path):
    names = [
        "train/section_00_source_train_normal_0000_x.wav",
        "train/section_00_source_train_normal_0001_y.wav",
        "train/section_00_target_train_normal_0000_x.wav",
        "test/section_00_source_test_normal_0000_x.wav",
        "test/section_00_target_test_anomaly_0000_x.wav",
    ]
    for seed, name in enumerate(names):
        (tmp_path / "fan" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "fan" / name, noise(seed), 16_000)
    finding = the_finding(checked(tmp_path))
    assert finding.where == "fan section 00 target test"
    assert "only anomaly" in finding.what


def test_a_machine_type_without_models_is_named(root: Path):
    soundfile.write(root / TRAIN.format(7), noise(7), 16_000)
    finding = the_finding(checked(root, classes="section"))
    assert (finding.severity, finding.where) == ("warning", "training of fan")
    assert "models learn to separate classes" in finding.what
    assert finding.remedy.startswith("for models add a second section")


def test_where_there_is_no_corpus_there_is_no_table(tmp_path: Path):
    with pytest.raises(InputError, match="expected folders of machine types"):
        checked(tmp_path)


def test_errors_come_first_and_alike_findings_stand_together(root: Path):
    for number in range(10, 16):
        (root / TRAIN.format(number)).write_bytes(b"<html>")
    soundfile.write(root / TRAIN.format(1), 0 * noise(9), 16_000)
    text = format_table(checked(root))
    assert text.count("HTML") == 1
    assert "and 3 more: --json lists all" in text
    assert text.index("error:") < text.index("warning:")
    assert text.endswith("6 errors, 1 warning, 0 notes")


def test_findings_that_differ_in_numbers_or_names_only_stand_together(root: Path):
    for number in range(10, 16):
        path = root / TRAIN.format(number)
        soundfile.write(path, noise(number), 16_000)
        path.write_bytes(path.read_bytes()[: -10 * number])
    soundfile.write(root / TRAIN.format(0), noise(0), 44_100)
    soundfile.write(root / TRAIN.format(1), noise(1), 48_000)
    result = checked(root)
    text = " ".join(format_table(result).split())
    assert text.count("error: truncated: its header says 4000 bytes of samples, got … ") == 1
    assert "wav: truncated: its header says 4000 bytes of samples, got 3900" in text
    assert text.count("and 3 more: --json lists all") == 1
    assert text.count("error: … Hz; expected mono 16-bit PCM at 16000 Hz") == 1
    assert len({finding["what"] for finding in as_json(result)["findings"]}) == 6 + 2 + 1


def test_the_table_fits_80_columns_but_for_words_that_do_not(tmp_path: Path):
    folder = tmp_path / ("a very long folder name" * 5) / ("machine" * 12) / "train"
    folder.mkdir(parents=True)
    (folder / "unparsed name.wav").touch()
    soundfile.write(folder / "section_00_source_train_normal_0000_x.wav", noise(0), 16_000)
    text = format_table(checked(folder.parents[1]))
    for line in text.splitlines():
        assert len(line) <= 80 or max(map(len, line.split())) >= 84
    assert f"name/{'machine' * 12}/train/unparsed" in text
    assert "2 errors, 0 warnings, 1 note" in text


def test_a_name_that_is_not_in_utf_8_is_an_error(root: Path):
    odd = root / os.fsdecode(TRAIN.format(11).encode().replace(b".wav", b"\xff.wav"))
    shutil.copy(next((root / "fan" / "train").iterdir()), odd)
    (finding,) = checked(root).errors
    assert "expected a name in UTF-8, got another encoding" in finding.what


def test_findings_fit_a_narrow_terminal(root: Path):
    (root / TRAIN.format(10)).write_bytes(b"<html>")
    result = checked(root)
    findings = format_table(result, 40).partition("error: ")[2]
    assert all(len(line) <= 40 or len(line.split()[-1]) > 30 for line in findings.splitlines())
    assert findings.split() == format_table(result).partition("error: ")[2].split()


def test_the_table_counts_as_the_result_does(root: Path):
    lines = format_table(checked(root)).splitlines()
    assert lines[0] == "dcase2021, 6 clips"
    assert [line.split() for line in lines[3:7]] == [
        ["fan", "00", "train", "source", "2", "0", "0"],
        ["fan", "00", "train", "target", "1", "0", "0"],
        ["fan", "00", "test", "source", "1", "1", "0"],
        ["fan", "00", "test", "target", "0", "0", "1"],
    ]


def test_json_has_every_finding(root: Path):
    for number in range(10, 16):
        (root / TRAIN.format(number)).write_bytes(b"<html>")
    content = json.loads(json.dumps(as_json(checked(root))))
    assert (content["layout"], content["clips"], content["errors"], content["notes"]) == ("dcase2021", 12, 6, 0)
    assert len(content["findings"]) == 6
    assert set(content["findings"][0]) == {"severity", "where", "what", "remedy", "machine"}
    assert sum(count["clips"] for count in content["counts"]) == 12
