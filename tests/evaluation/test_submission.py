"""Submissions: written files read back equal, and errors name every bad row."""

import csv
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asdjax.errors import InputError
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.submission import read, verify, write
from asdjax.inference.scored_clip import ScoredClip

CLIP_NAMES = {
    2020: "{label}_id_{section}_{number:08d}.wav",
    2021: "section_{section}_{domain}_test_{label}_{number:04d}.wav",
    2022: "section_{section}_{domain}_test_{label}_{number:04d}_d1p_v_1.wav",
}


def made_up(year: int) -> list[ScoredClip]:
    """Make up a development submission with scores of extreme magnitudes."""
    rng = np.random.default_rng(year)
    domains = ("source",) if year == 2020 else ("source", "target")
    clips = []
    for machine in ("fan", "my_toy_section_car"):
        for section in ("00", "01"):
            for domain in domains:
                for number in range(6):
                    label = "anomaly" if number % 2 else "normal"
                    name = CLIP_NAMES[min(year, 2022)].format(
                        label=label, section=section, domain=domain, number=number
                    )
                    score = float(np.float32(rng.normal())) * 10.0 ** rng.integers(-300, 300)
                    clips.append(ScoredClip(name, machine, section, domain, label, score, bool(number % 3)))
    return clips


def submission(folder: Path, year: int = 2021) -> Path:
    write(folder, year, made_up(year))
    return folder


def change(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")


def key(clip: ScoredClip) -> tuple[str, ...]:
    return clip.machine, clip.section, clip.domain or "", clip.name


@pytest.mark.parametrize("year", range(2020, 2027))
def test_what_is_written_reads_back_bit_equal(tmp_path: Path, year: int) -> None:
    clips = made_up(year)
    write(tmp_path / "new" / "folder", year, reversed(clips))
    assert sorted(read(tmp_path / "new" / "folder", year), key=key) == sorted(clips, key=key)


@pytest.mark.parametrize("machine", ["DCASE2023T2fan", "Lüfter 1", "fan_seed1"])
def test_what_is_written_of_any_machine_type_is_verified(tmp_path: Path, machine: str) -> None:
    clips = [replace(clip, machine=machine) for clip in made_up(2021) if clip.machine == "fan"]
    write(tmp_path, 2021, clips)
    verify(tmp_path, 2021, clips)
    with pytest.raises(InputError, match="expected what was written"):
        verify(tmp_path, 2021, [replace(clip, score=2 * clip.score) for clip in clips])


@pytest.mark.parametrize(
    ("year", "stem", "count"),
    [
        (2020, "my_toy_section_car_id_01", 4),
        (2021, "my_toy_section_car_section_01_target_test", 8),
        (2022, "my_toy_section_car_section_01_test", 4),
        (2025, "my_toy_section_car_section_01_test", 4),
    ],
)
def test_files_are_named_and_laid_out_as_the_challenge_wants(tmp_path: Path, year: int, stem: str, count: int) -> None:
    submission(tmp_path, year)
    assert len(list(tmp_path.iterdir())) == 2 * count
    rows = (tmp_path / f"anomaly_score_{stem}.csv").read_text().splitlines()
    names = [row.split(",")[0] for row in rows]
    assert names == sorted(names)
    decisions = (tmp_path / f"decision_result_{stem}.csv").read_text().splitlines()
    assert {row.split(",")[1] for row in decisions} == {"0", "1"}
    assert [row.split(",")[0] for row in decisions] == names


def test_names_with_comma_or_quote_are_quoted(tmp_path: Path) -> None:
    clip = ScoredClip('say "hi", fan.wav', "fan", "00", "source", "normal", 0.1, None)
    write(tmp_path / "scores", 2021, [clip])
    (path,) = (tmp_path / "scores").iterdir()
    assert list(csv.reader(path.read_text().splitlines())) == [['say "hi", fan.wav', "0.1"]]
    (tmp_path / "truth").mkdir()
    truth = path.read_text().replace("0.1", "0")
    (tmp_path / "truth/ground_truth_fan_section_00_source_test.csv").write_text(truth)
    assert read(tmp_path / "scores", 2021, tmp_path / "truth") == [clip]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\nb.wav"},
        {"name": "latin\udce9.wav"},
        {"machine": "../fan"},
        {"machine": "fan\n"},
        {"section": "left_side"},
        {"domain": None},
        {"score": float("nan")},
        {"score": float("-inf")},
        {"decision": None},
    ],
)
def test_what_no_file_can_hold_is_refused_before_anything_is_written(tmp_path: Path, change: dict) -> None:
    clips = made_up(2021)
    clips[-1] = replace(clips[-1], **change)
    with pytest.raises(InputError, match="expected"):
        write(tmp_path / "scores", 2021, clips)
    assert not (tmp_path / "scores").exists()


def test_a_clip_twice_is_refused(tmp_path: Path) -> None:
    clips = made_up(2022)
    with pytest.raises(InputError, match="expected once, got twice"):
        write(tmp_path, 2022, [*clips, clips[0]])


def test_older_decisions_do_not_outlive_new_scores(tmp_path: Path) -> None:
    submission(tmp_path)
    write(tmp_path, 2021, [replace(clip, decision=None) for clip in made_up(2021)])
    assert all(path.name.startswith("anomaly_score_") for path in tmp_path.iterdir())
    assert {clip.decision for clip in read(tmp_path, 2021)} == {None}


def test_shuffled_rows_blank_lines_and_windows_files_read_the_same(tmp_path: Path) -> None:
    expected = read(submission(tmp_path), 2021)
    for path in tmp_path.iterdir():
        rows = path.read_text().splitlines()
        random.Random(path.name).shuffle(rows)
        path.write_bytes(("\ufeff" + "\r\n".join([*rows, "", ""])).encode())
    assert read(tmp_path, 2021) == expected


SCORES = "anomaly_score_fan_section_00_source_test.csv"
DECISIONS = "decision_result_fan_section_00_source_test.csv"
BAD_ROWS = {
    "missing score": (SCORES, lambda rows: rows[:2] + rows[3:], rf"{SCORES}: .*anomaly_0005.wav.*{DECISIONS}"),
    "missing decision": (DECISIONS, lambda rows: rows[1:], rf"{SCORES}, row 1: .*{DECISIONS}.*anomaly_0001"),
    "doubled": (SCORES, lambda rows: [*rows, rows[1]], rf"{SCORES}, row 7: .*once \(row 2 .*anomaly_0003"),
    "renamed": (
        SCORES,
        lambda rows: [rows[0].replace("_0001", "_0009"), *rows[1:]],
        rf"{SCORES}, row 1: .*{DECISIONS}.*anomaly_0009",
    ),
    "foreign name": (SCORES, lambda rows: ["my.wav,1", *rows], rf"{SCORES}, row 1: .*my.wav,1"),
    "NaN": (SCORES, lambda rows: [*rows[:2], rows[2].split(",")[0] + ",nan"], rf"{SCORES}, row 3: .*,nan"),
    "infinite": (SCORES, lambda rows: [rows[0].split(",")[0] + ",1e999"], rf"{SCORES}, row 1: .*,1e999"),
    "not a number": (SCORES, lambda rows: [rows[0].split(",")[0] + ",high"], rf"{SCORES}, row 1: .*,high"),
    "underscored": (SCORES, lambda rows: [rows[0].split(",")[0] + ",1_0"], rf"{SCORES}, row 1: .*,1_0"),
    "no value": (SCORES, lambda rows: [rows[0].split(",")[0]], rf"{SCORES}, row 1: .*anomaly_0001.wav'"),
    "three fields": (SCORES, lambda rows: [rows[0] + ",1"], rf"{SCORES}, row 1: .*,1'"),
    "open quote": (SCORES, lambda rows: ['"' + rows[0]], rf"{SCORES}: expected rows name,value"),
    "header": (SCORES, lambda rows: ["name,score", *rows], rf"{SCORES}, row 1: .*no header.*name,score"),
    "decision": (DECISIONS, lambda rows: [rows[0][:-1] + "2"], rf"{DECISIONS}, row 1: .*0 or 1.*,2"),
    "empty": (SCORES, lambda rows: [""], rf"{SCORES}: .*empty file"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_every_bad_row_is_named(tmp_path: Path, case: str) -> None:
    name, edit, message = BAD_ROWS[case]
    change(submission(tmp_path) / name, edit)
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, 2021)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("right", "wrong"), [("section_00", "section_07"), ("source", "target")])
def test_a_clip_of_another_section_or_domain_is_named(tmp_path: Path, right: str, wrong: str) -> None:
    write(tmp_path, 2021, [replace(clip, decision=None) for clip in made_up(2021)])
    change(tmp_path / SCORES, lambda rows: [*rows[:2], rows[2].replace(right, wrong), *rows[3:]])
    with pytest.raises(InputError, match=f"{SCORES}, row 3: .* to agree, got .*{wrong}"):
        read(tmp_path, 2021)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (submission(tmp_path) / SCORES).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=f"{SCORES}: .*UTF-8"):
        read(tmp_path, 2021)


@pytest.mark.parametrize("written", [2020, 2021, 2022])
@pytest.mark.parametrize("read_as", [2020, 2021, 2022])
def test_another_years_files_are_told_apart(tmp_path: Path, written: int, read_as: int) -> None:
    submission(tmp_path, written)
    if written != read_as:
        with pytest.raises(InputError, match=f"got one of {written}; check --year"):
            read(tmp_path, read_as)


def test_no_score_files(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"expected .*got no"):
            read(folder, 2021)
    submission(tmp_path)
    (tmp_path / SCORES).unlink()
    with pytest.raises(InputError, match=f"{DECISIONS}: expected a score file"):
        read(tmp_path, 2021)


def made_up_scores(folder: Path, truth: Path) -> Path:
    """Write a submission with random scores for the clips of a truth folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for path in sorted(truth.glob("*.csv")):
        names = [row.split(",")[0] for row in path.read_text().splitlines()]
        stem = path.stem.removeprefix("ground_truth_")
        rows = [f"{name},{rng.random()!r}" for name in rng.permutation(names)]
        (folder / f"anomaly_score_{stem}.csv").write_text("\n".join(rows))
    return folder


def test_2021_truth_is_joined_by_name(tmp_path: Path, shared_data: Path) -> None:
    truth = shared_data / "official/2021/eval_truth"
    folder = made_up_scores(tmp_path / "scores", truth)
    clips = read(folder, 2021, truth)
    assert len(clips) == sum(len(path.read_text().splitlines()) for path in truth.iterdir())
    labels = dict(csv.reader((truth / "ground_truth_fan_section_03_source_test.csv").read_text().splitlines()))
    fan = [c for c in clips if (c.machine, c.section, c.domain) == ("fan", "03", "source")]
    assert {c.name: str(int(c.label == "anomaly")) for c in fan} == labels
    assert compute_metrics(2021, clips).undefined == 0
    assert {c.label for c in read(folder, 2021)} == {None}


@pytest.mark.parametrize("given", ["", "ground_truth_data", "ground_truth_domain", "ground_truth_attributes"])
def test_2023_truth_may_be_any_of_its_folders(tmp_path: Path, shared_data: Path, given: str) -> None:
    truth = shared_data / "official/2023"
    folder = made_up_scores(tmp_path / "scores", truth / "ground_truth_data")
    clips = read(folder, 2023, truth / given)
    for path in (truth / "ground_truth_attributes").iterdir():
        full_names = dict(csv.reader(path.read_text().splitlines()))
        machine = path.name.removeprefix("ground_truth_").removesuffix("_section_00_test.csv")
        here = [c for c in clips if c.machine == machine]
        assert {c.name for c in here} == set(full_names)
        assert all(f"_{c.domain}_test_{c.label}_" in full_names[c.name] for c in here)
    metrics = compute_metrics(2023, clips)
    assert len(metrics.cells) == 14
    assert metrics.undefined == 0


def small_truth(folder: Path, **tables: str) -> Path:
    """Write truth and scores of two clips; `tables` holds the two truth values by table name."""
    (folder / "scores").mkdir()
    rows = "section_00_0000.wav,0.5\nsection_00_0001.wav,0.75\n"
    (folder / "scores/anomaly_score_fan_section_00_test.csv").write_text(rows)
    for name, values in tables.items():
        path = folder / "truth" / f"ground_truth_{name}" / "ground_truth_fan_section_00_test.csv"
        path.parent.mkdir(parents=True)
        rows = [f"section_00_000{i}.wav,{value}" for i, value in enumerate(values.split())]
        path.write_text("\n".join(rows))
    return folder / "truth"


SOURCE_NORMAL = "section_00_source_test_normal_0000_v_1"
TARGET_ANOMALY = "section_00_target_test_anomaly_0000_v_1"


def test_attributes_alone_are_truth_enough(tmp_path: Path) -> None:
    truth = small_truth(tmp_path, attributes=f"{SOURCE_NORMAL} {TARGET_ANOMALY}")
    first, second = read(tmp_path / "scores", 2024, truth)
    assert (first.label, first.domain, second.label, second.domain) == (
        "normal",
        "source",
        "anomaly",
        "target",
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"data": "0 1"}, "row 1: expected its label and domain in the truth"),
        ({"domain": "0 1"}, "row 1: expected its label and domain in the truth"),
        ({"data": "0 1", "attributes": f"{SOURCE_NORMAL} {SOURCE_NORMAL}"}, "row 2: expected .* to agree"),
        ({"data": "0 2", "domain": "0 1"}, "row 2: expected name,label with 0 or 1"),
        ({"data": "0", "domain": "0 1"}, "row 2: expected a clip that .*ground_truth_data"),
        ({"data": "0 1 1", "domain": "0 1"}, "expected a row 'section_00_0002.wav'"),
        ({"attributes": "fan fan"}, "row 1: expected name,full name"),
    ],
)
def test_truth_that_does_not_fit_is_named(tmp_path: Path, tables: dict[str, str], message: str) -> None:
    truth = small_truth(tmp_path, **tables)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "scores", 2023, truth)


def test_truth_and_submission_hold_the_same_files(tmp_path: Path) -> None:
    truth = small_truth(tmp_path, data="0 1", domain="0 1")
    extra = truth / "ground_truth_data/ground_truth_pump_section_00_test.csv"
    extra.write_text("section_00_0000.wav,1\n")
    with pytest.raises(InputError, match=r"pump_section_00_test\.csv: expected a score file"):
        read(tmp_path / "scores", 2023, truth)
    extra.unlink()
    own = tmp_path / "scores/anomaly_score_pump_section_00_test.csv"
    own.write_text("section_00_0000.wav,1\n")
    with pytest.raises(InputError, match=r"pump_section_00_test\.csv: expected its truth"):
        read(tmp_path / "scores", 2023, truth)
    with pytest.raises(InputError, match="expected a folder of ground_truth files"):
        read(tmp_path / "scores", 2023, tmp_path / "nowhere")


def test_files_without_a_partner_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(submission(tmp_path), 2021)
    assert capsys.readouterr().err == ""
    (tmp_path / DECISIONS).unlink()
    (tmp_path / "anomaly_score_fan_section_01_target_test.csv").unlink()
    (tmp_path / "decision_result_fan_section_01_target_test.csv").unlink()
    read(tmp_path, 2021)
    decision, domain = capsys.readouterr().err.splitlines()
    assert decision.endswith(f"a missing row is not noticed without truth files: {SCORES}")
    assert domain.endswith("no score file of the section's other domain: anomaly_score_fan_section_01_source_test.csv")


def test_the_truth_of_2022_is_accepted_as_it_was_published(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = shared_data / "official/2022/eval_truth"
    folder = made_up_scores(tmp_path / "scores", truth / "ground_truth_data")
    clips = read(folder, 2022, truth)
    for what, field, words in (("data", "label", ("normal", "anomaly")), ("domain", "domain", ("source", "target"))):
        for machine in ("ToyTrain", "gearbox"):
            table = truth / f"ground_truth_{what}/ground_truth_{machine}_section_05_test.csv"
            expected = {name: words[int(value)] for name, value in csv.reader(table.read_text().splitlines())}
            here = [clip for clip in clips if (clip.machine, clip.section) == (machine, "05")]
            assert {clip.name: getattr(clip, field) for clip in here} == expected
    assert compute_metrics(2022, clips).undefined == 0
    assert "left out for ToyCar 03" in capsys.readouterr().err


def test_of_lists_of_several_years_the_asked_one_is_taken(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = shared_data / "official/lists"
    for year, truth in ((2021, "2021/eval_truth"), (2022, "2022/eval_truth/ground_truth_data")):
        folder = made_up_scores(tmp_path / str(year), shared_data / "official" / truth)
        assert compute_metrics(year, read(folder, year, lists)).undefined == 0
        warned = "eval_data_list_2022.csv: known to be wrong" in capsys.readouterr().err
        assert warned == (year == 2022)


def test_truths_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    truth = small_truth(tmp_path, data="0 1", domain="0 1")
    names = [f"section_00_000{i}.wav,{SOURCE_NORMAL}.wav" for i in range(2)]
    (truth / "eval_data_list_2023.csv").write_text("\n".join(["fan", *names]))
    with pytest.raises(InputError, match=r"row 2: .*ground_truth_data/.*eval_data_list_2023\.csv\) to agree"):
        read(tmp_path / "scores", 2023, truth)


@pytest.mark.parametrize("endings", [(".flac", ".wav"), (".wav", ".flac"), (".flac", ".FLAC"), (".wav", ".wav")])
def test_scores_of_recordings_in_another_format_are_joined_to_their_truth(
    tmp_path: Path, endings: tuple[str, str]
) -> None:
    scored, known = endings
    names = [f"section_00_source_test_000{i}" for i in range(2)]
    files = {"anomaly_score": (scored, "0.5"), "decision_result": (scored, "1"), "ground_truth": (known, "1")}
    for prefix, (ending, value) in files.items():
        (tmp_path / prefix).mkdir()
        text = "".join(f"{name}{ending},{value}\n" for name in names)
        folder = tmp_path / ("anomaly_score" if prefix == "decision_result" else prefix)
        (folder / f"{prefix}_fan_section_00_source_test.csv").write_text(text)
    clips = read(tmp_path / "anomaly_score", 2021, tmp_path / "ground_truth")
    assert [(clip.name, clip.label) for clip in clips] == [(f"{name}.wav", "anomaly") for name in names]


def test_one_recording_scored_in_two_formats_is_refused(tmp_path: Path) -> None:
    rows = "section_00_source_test_normal_0000.wav,1\nsection_00_source_test_normal_0000.flac,2\n"
    (tmp_path / "anomaly_score_fan_section_00_source_test.csv").write_text(rows)
    with pytest.raises(InputError, match=r"row 1: expected each clip once .row 2 has it."):
        read(tmp_path, 2021)


@pytest.mark.parametrize("year", [2021, 2022])
def test_a_name_with_an_empty_tail_is_read(tmp_path: Path, year: int) -> None:
    file = "anomaly_score_fan_section_00_source_test.csv" if year == 2021 else "anomaly_score_fan_section_00_test.csv"
    names = ["section_00_source_test_normal_0000_.wav", "section_00_source_anomaly_0001_.WAV"]
    (tmp_path / file).write_text("".join(f"{name},1\n" for name in names))
    clips = read(tmp_path, year)
    assert sorted((clip.name, clip.label, clip.domain) for clip in clips) == [
        ("section_00_source_anomaly_0001_.wav", "anomaly", "source"),
        (names[0], "normal", "source"),
    ]


@pytest.mark.parametrize(
    ("year", "place"),
    [
        (2023, "DCASE2023T2ToyCar_section_00_test_seed13711_id(0_)"),
        (2023, "DCASE2023T2ToyCar_section_00_test_seed13711_id(0_)_Eval"),
        (2023, "DCASE2023T2ToyCar_section_00_test"),
        (2024, "DCASE2024T2ToyCar_section_00_test_seed1"),
        (2024, "ToyCar_section_00"),
        (2022, "ToyCar_section_00_test_seed13711"),
    ],
)
def test_the_official_baselines_file_names_are_read(tmp_path: Path, year: int, place: str) -> None:
    for prefix, value in (("anomaly_score", "0.5"), ("decision_result", "1")):
        row = f"section_00_target_test_anomaly_0001_car_A1.wav,{value}\n"
        (tmp_path / f"{prefix}_{place}.csv").write_text(row)
    (clip,) = read(tmp_path, year)
    assert (clip.machine, clip.section, clip.score, clip.decision) == ("ToyCar", "00", 0.5, True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DCASE2023T2ToyCar_section_00_test", "got one of 2023; check --year"),
        ("ToyCar_section_00_test (1)", r"got ' \(1\)' behind it; rename it without that"),
        ("ToyCar_section_00_test_final", "got '_final' behind it"),
    ],
)
def test_what_is_foreign_in_a_file_name_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / f"anomaly_score_{name}.csv").write_text("section_00_target_test_anomaly_0001_x_1.wav,1\n")
    with pytest.raises(InputError, match=message):
        read(tmp_path, 2024)


def test_two_files_of_one_place_are_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        file = tmp_path / f"anomaly_score_DCASE2023T2ToyCar_section_00_test_seed{seed}_id(0_).csv"
        file.write_text("section_00_target_test_anomaly_0001_x_1.wav,1\n")
    with pytest.raises(InputError, match=r"seed2_id\(0_\)\.csv: expected one file of ToyCar 00, got .*seed1_id"):
        read(tmp_path, 2023)
