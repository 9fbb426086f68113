"""Truth of the organisers, joined by name to the clips of evaluation sets."""

import csv
from pathlib import Path

import pytest

from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.errors import InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def blind_clips(*args, **kwargs) -> dict[str, Clip]:
    return {clip.name: clip for clip in read_corpus(*args, **kwargs) if clip.blind}


LABELS = {"0": "normal", "1": "anomaly"}


def test_the_truth_of_2021_joins_unlabelled_clips_by_name(shared_data: Path, tmp_path: Path):
    truth = shared_data / "official" / "2021" / "eval_truth"
    labels = {
        domain: dict(rows(truth / f"ground_truth_fan_section_03_{domain}_test.csv")) for domain in ("source", "target")
    }
    names = [f"fan/{domain}_test/{name}" for domain, names_to_labels in labels.items() for name in names_to_labels]
    touch(tmp_path, *names, "fan/source_test/section_00_source_test_normal_0000.wav")
    clips = blind_clips([tmp_path], truth=truth)
    assert len(clips) == 400
    for domain, names_to_labels in labels.items():
        for name, label in names_to_labels.items():
            assert (clips[name].label, clips[name].domain) == (LABELS[label], domain)
    assert all(clip.label is None for clip in blind_clips([tmp_path]).values())


@pytest.mark.parametrize(("on_disk", "listed"), [(".WAV", ".wav"), (".WAV", ".WAV"), (".wav", ".WAV")])
def test_the_truth_joins_names_in_any_case_of_the_ending(tmp_path: Path, on_disk: str, listed: str):
    touch(tmp_path / "data", f"fan/source_test/section_03_source_test_0000{on_disk}")
    (tmp_path / "truth").mkdir()
    file = tmp_path / "truth" / "ground_truth_fan_section_03_source_test.csv"
    file.write_text(f"section_03_source_test_0000{listed},1\n")
    (clip,) = read_corpus([tmp_path / "data"], truth=tmp_path / "truth")
    assert (clip.label, clip.name) == ("anomaly", "section_03_source_test_0000.wav")


def test_the_truth_of_2023_tells_label_domain_and_attributes(shared_data: Path, tmp_path: Path):
    truth = shared_data / "official" / "2023"
    file = "ground_truth_grinder_section_00_test.csv"
    labels = dict(rows(truth / "ground_truth_data" / file))
    domains = dict(rows(truth / "ground_truth_domain" / file))
    touch(tmp_path, *(f"grinder/test/{name}" for name in labels))
    clips = blind_clips([tmp_path], truth=truth)
    assert len(clips) == 200
    for name, clip in clips.items():
        assert clip.label == LABELS[labels[name]]
        assert clip.domain == {"0": "source", "1": "target"}[domains[name]]
    assert clips["section_00_0000.wav"].attributes == (("grindstone", "2"), ("plate", "2"))
    assert blind_clips([tmp_path], truth=truth / "ground_truth_data") == clips


def test_the_list_of_2020_tells_labels_by_full_names(tmp_path: Path):
    touch(tmp_path / "data", "ToyCar/test/id_05_00000000.wav", "ToyCar/test/id_05_00000001.wav")
    touch(tmp_path / "data", "fan/test/id_01_00000000.wav", "fan/train/normal_id_01_00000000.wav")
    (tmp_path / "eval_data_list.csv").write_text(
        "ToyCar\nid_05_00000000.wav,normal_id_05_00000000.wav,0\nid_05_00000001.wav,anomaly_id_05_00000000.wav,1\n"
        "fan\nid_01_00000000.wav,anomaly_id_01_00000000.wav,1\n"
    )
    found = {
        (clip.machine, clip.name, clip.label) for clip in read_corpus([tmp_path / "data"], truth=tmp_path) if clip.blind
    }
    assert found == {
        ("ToyCar", "id_05_00000000.wav", "normal"),
        ("ToyCar", "id_05_00000001.wav", "anomaly"),
        ("fan", "id_01_00000000.wav", "anomaly"),
    }


EVAL = "fan/source_test/section_03_source_test_0000.wav"
TRUTH = "ground_truth_fan_section_03_source_test.csv"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TRUTH, "section_03_source_test_0001.wav,1\n", f"{TRUTH}: expected a row for section_03_source_test_0000.wav"),
        (TRUTH, "section_03_source_test_0000.wav,2\n", "row 1: expected name,label with 0 or 1, got"),
        (TRUTH, "name,label\n", "no header line"),
        (TRUTH, "", "got an empty file"),
        ("other.csv", "", "expected ground_truth files or an eval_data_list"),
        ("ground_truth_fan_section_03_test.csv", "a.wav,1\n", "got one of 2022"),
        ("eval_data_list.csv", "fan\nsection_03_source_test_0000.wav,x.wav,1\n", "row 2: expected a machine type, or"),
        (
            "eval_data_list.csv",
            "fan\nsection_03_source_test_0000.wav,section_03_source_test_normal_0000.wav,1\n",
            "one label",
        ),
        (
            "ground_truth_pump_section_03_source_test.csv",
            "a.wav,1\n",
            "expected labels of the 1 unlabelled clips, got none",
        ),
        ("eval_data_list.csv", "section_03_source_test_0000.wav,section_03_source_test_normal_0000.wav\n", "before it"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused_by_file_and_row(tmp_path: Path, file: str, content: str, message: str):
    touch(tmp_path / "data", EVAL)
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / file).write_text(content)
    with pytest.raises(InputError) as refusal:
        read_corpus([tmp_path / "data"], truth=tmp_path / "truth")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_tables_that_contradict_each_other_are_refused(tmp_path: Path):
    touch(tmp_path / "data", "fan/test/section_00_0000.wav", "fan/train/section_00_source_train_normal_0000_x_1.wav")
    file = "ground_truth_fan_section_00_test.csv"
    for folder, row in (
        ("ground_truth_data", "section_00_0000.wav,1"),
        ("ground_truth_attributes", "section_00_0000.wav,section_00_source_test_normal_0000_x_1"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(row)
    with pytest.raises(InputError, match="expected label anomaly, as in its name or another table, got"):
        read_corpus([tmp_path / "data"], truth=tmp_path)


def test_a_manifest_has_its_labels_itself(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("path,machine,section,split\na.wav,m,0,test\n")
    with pytest.raises(InputError, match=r"config.data.truth: expected a challenge's layout, got a manifest"):
        read_corpus([tmp_path], truth=tmp_path)


FULL = "fan/test/section_03_target_test_anomaly_0007_m-n_X.wav"


@pytest.mark.parametrize("column", ["file_name_with_attributes", "file_name_with_full_attributes"])
def test_attribute_tables_by_machine_type_have_the_full_name_in_the_last_column(tmp_path: Path, column: str):
    touch(tmp_path / "data", "fan/test/section_03_0000.wav")
    home = tmp_path / "truth" / "ground_truth_attributes" / "fan"
    home.mkdir(parents=True)
    (home / "attributes_03.csv").write_text(f"file_name,d1p,d1v,{column}\nfan/test/section_03_0000.wav,m,X,{FULL}\n")
    (clip,) = read_corpus([tmp_path / "data"], layout="dcase2022", truth=tmp_path / "truth")
    assert (clip.label, clip.domain, clip.attributes) == ("anomaly", "target", (("m-n", "X"),))


def test_the_full_name_moves_to_the_left_where_attributes_are_left_out(tmp_path: Path):
    """So it is in the published table of section 05 of the valve of 2022."""
    touch(tmp_path / "data", "fan/test/section_03_0000.wav")
    home = tmp_path / "truth" / "ground_truth_attributes" / "fan"
    home.mkdir(parents=True)
    header = "file_name,d1p,d1v,d2p,d2v,file_name_with_full_attributes"
    (home / "attributes_03.csv").write_text(f"{header}\nfan/test/section_03_0000.wav,m-n,X,{FULL}\n")
    (clip,) = read_corpus([tmp_path / "data"], layout="dcase2022", truth=tmp_path / "truth")
    assert (clip.label, clip.domain, clip.attributes) == ("anomaly", "target", (("m-n", "X"),))


def test_of_three_columns_of_attributes_the_second_counts(tmp_path: Path):
    touch(tmp_path / "data", "fan/test/section_00_0001.wav")
    home = tmp_path / "truth" / "ground_truth_attributes"
    home.mkdir(parents=True)
    names = "section_00_source_test_normal_0001_noAttribute,section_00_source_test_normal_0001_fl_2_nos_3.wav"
    (home / "ground_truth_fan_section_00_test.csv").write_text(f"section_00_0001.wav,{names}\n")
    (clip,) = read_corpus([tmp_path / "data"], layout="dcase2022", truth=tmp_path / "truth")
    assert (clip.label, clip.domain, clip.attributes) == ("normal", "source", ())


def test_the_truth_of_2022_joins_labels_and_domains(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    truth = shared_data / "official" / "2022" / "eval_truth"
    for machine in ("valve", "ToyCar"):
        file = f"ground_truth_{machine}_section_04_test.csv"
        labels, domains = (dict(rows(truth / f"ground_truth_{fact}" / file)) for fact in ("data", "domain"))
        touch(tmp_path / machine, *(f"{machine}/test/{name}" for name in labels))
        clips = blind_clips([tmp_path / machine], truth=truth)
        assert {name: clip.label for name, clip in clips.items()} == {n: LABELS[label] for n, label in labels.items()}
        assert {clip.domain for clip in clips.values()} == {"source", "target"}
        assert all((clip.domain == "target") == (domains[name] == "1") for name, clip in clips.items())
        assert all(bool(clip.attributes) == (machine == "valve") for clip in clips.values())
    assert "warning: " in (log := capsys.readouterr().err)
    assert "left out for ToyCar 03" in log


def test_the_list_that_is_known_to_be_wrong_is_warned_of(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The folder also has lists of years with another layout, which are not read."""
    touch(tmp_path, "ToyCar/test/section_03_0000.wav", "bandsaw/test/section_00_0005.wav")
    clips = blind_clips([tmp_path], truth=shared_data / "official" / "lists")
    assert {clip.label for clip in clips.values()} == {"anomaly"}
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert "eval_data_list_2022.csv: known to be wrong for ToyCar, so their results" in warning


def test_machine_types_of_another_year_are_not_warned_of_that_list(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    touch(tmp_path, "bandsaw/test/section_00_0005.wav")
    blind_clips([tmp_path], truth=shared_data / "official" / "lists")
    assert "warning" not in capsys.readouterr().err


def test_a_list_and_a_table_that_contradict_each_other_are_both_named(tmp_path: Path):
    touch(tmp_path / "data", "fan/test/section_03_0000.wav")
    (tmp_path / "eval_data_list_2022.csv").write_text(
        "fan\nsection_03_0000.wav,section_03_source_test_normal_0000_x_1.wav\n"
    )
    (tmp_path / "ground_truth_data").mkdir()
    (tmp_path / "ground_truth_data" / "ground_truth_fan_section_03.csv").write_text("section_03_0000.wav,1\n")
    with pytest.raises(InputError, match=r"eval_data_list_2022\.csv, row 2: .*ground_truth_fan_section_03\.csv"):
        read_corpus([tmp_path / "data"], layout="dcase2022", truth=tmp_path)


def test_a_folder_with_lists_of_other_years_alone_is_refused(tmp_path: Path):
    touch(tmp_path / "data", EVAL)
    (tmp_path / "eval_data_list_2023.csv").write_text("fan\n")
    with pytest.raises(InputError, match=r"expected ground_truth files .* of 2021, got eval_data_list_2023\.csv"):
        read_corpus([tmp_path / "data"], truth=tmp_path)
