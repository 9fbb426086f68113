"""Layouts: real file names of each year, and the errors for names that do not fit."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdjax.cli.main import main
from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus, scan
from asdjax.data.names import split_attributes
from asdjax.errors import InputError


def touch(root: Path, *names: str) -> Path:
    """Write empty files. Layouts depend on names only."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def only(root: Path, **options: str) -> Clip:
    (clip,) = read_corpus([root], **options)
    return clip


def facts(clip: Clip) -> tuple:
    return clip.machine, clip.section, clip.split, clip.domain, clip.label


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/normal_id_00_00000007.wav", ("slider", "00", "train", "source", "normal")),
        ("test/anomaly_id_02_00000000.wav", ("slider", "02", "test", "source", "anomaly")),
        ("test/id_01_00000000.wav", ("slider", "01", "test", "source", None)),
    ],
)
def test_names_of_2020(tmp_path: Path, name: str, expected: tuple):
    root = touch(tmp_path, f"slider/{name}")
    assert read_corpus([root]).layout == "dcase2020"
    assert facts(only(root)) == expected


@pytest.mark.parametrize("ending", [".flac", ".FLAC", ".aiff", ".w64", ".caf", ".mp3", ".opus", ".m4a"])
@pytest.mark.parametrize(
    ("layout", "train", "test"),
    [
        ("dcase2020", "train/normal_id_00_00000000", "test/anomaly_id_00_00000000"),
        (
            "dcase2021",
            "train/section_00_source_train_normal_0000_v_1",
            "source_test/section_00_source_test_anomaly_0000",
        ),
        ("dcase2022", "train/section_00_source_train_normal_0000_v_1", "test/section_00_source_test_anomaly_0000_v_1"),
    ],
)
def test_names_of_every_year_may_end_as_other_formats_do(
    tmp_path: Path, layout: str, train: str, test: str, ending: str
):
    read = read_corpus([touch(tmp_path, f"fan/{train}{ending}", f"fan/{test}{ending}")])
    assert read.layout == layout
    assert [facts(clip)[1:] for clip in read] == [
        ("00", "train", "source", "normal"),
        ("00", "test", "source", "anomaly"),
    ]
    assert [clip.path.name for clip in read] == [f"{Path(name).name}{ending}" for name in (train, test)]
    # the names in the challenge's tables
    assert [clip.name for clip in read] == [f"{Path(name).name}.wav" for name in (train, test)]


def test_attributes_of_a_table_are_those_of_clips_in_any_format(tmp_path: Path):
    names = ["train/section_00_source_train_normal_0000_noAttribute", "test/section_00_0000"]
    root = touch(tmp_path, *(f"fan/{name}.flac" for name in names))
    table = root / "fan" / "attributes_00.csv"
    for ending in (".wav", ".flac"):
        table.write_text(f"file_name,d1p,d1v\nfan/{names[0]}{ending},vel,9\n")
        (clip,) = read_corpus([root]).select(split="train")
        assert clip.attributes == (("vel", "9"),)


@pytest.mark.parametrize(("on_disk", "listed"), [(".WAV", ".wav"), (".WAV", ".WAV"), (".wav", ".WAV")])
def test_attributes_of_a_table_match_in_any_case_of_the_ending(tmp_path: Path, on_disk: str, listed: str):
    name = "train/section_00_source_train_normal_0000_noAttribute"
    root = touch(tmp_path, f"fan/{name}{on_disk}")
    (root / "fan" / "attributes_00.csv").write_text(f"file_name,d1p,d1v\nfan/{name}{listed},vel,9\n")
    clip = only(root)
    assert clip.attributes == (("vel", "9"),)
    assert (clip.name, clip.path.suffix) == (f"{Path(name).name}.wav", on_disk)


def test_one_name_in_two_formats_is_one_clip_too_many(tmp_path: Path):
    name = "fan/train/section_00_source_train_normal_0000_v_1"
    root = touch(tmp_path, f"{name}.wav", f"{name}.flac")
    with pytest.raises(InputError, match=r"0000_v_1.wav: the same machine type, section and name as .*0000_v_1.flac"):
        read_corpus([root])


@pytest.mark.parametrize(
    ("name", "expected", "attributes"),
    [
        (
            "train/section_00_source_train_normal_0025_A1Spd28VMic1.wav",
            ("fan", "00", "train", "source", "normal"),
            (("attributes", "A1Spd28VMic1"),),
        ),
        (
            "train/section_00_source_train_normal_0000_strength_1_ambient.wav",
            ("fan", "00", "train", "source", "normal"),
            (("attributes", "strength_1_ambient"),),
        ),
        (
            "train/section_01_target_train_normal_0002_f-n_C.wav",
            ("fan", "01", "train", "target", "normal"),
            (("f-n", "C"),),
        ),
        ("source_test/section_00_source_test_anomaly_0090.wav", ("fan", "00", "test", "source", "anomaly"), ()),
        ("target_test/section_02_target_test_normal_0012.wav", ("fan", "02", "test", "target", "normal"), ()),
        ("source_test/section_03_source_test_0000.wav", ("fan", "03", "test", "source", None), ()),
        ("target_test/section_05_target_test_0199.wav", ("fan", "05", "test", "target", None), ()),
    ],
)
def test_names_of_2021(tmp_path: Path, name: str, expected: tuple, attributes: tuple):
    root = touch(tmp_path, f"fan/{name}")
    assert read_corpus([root]).layout == "dcase2021"
    assert facts(only(root)) == expected
    assert only(root).attributes == attributes


@pytest.mark.parametrize(
    ("name", "expected", "attributes"),
    [
        (
            "train/section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_1.wav",
            ("ToyCar", "00", "train", "source", "normal"),
            (("car", "A1"), ("spd", "28V"), ("mic", "1"), ("noise", "1")),
        ),
        (
            "train/section_00_source_train_normal_0326_noAttribute.wav",
            ("ToyCar", "00", "train", "source", "normal"),
            (),
        ),
        (
            "test/section_00_target_test_anomaly_0021_vel_8_loc_G.wav",
            ("ToyCar", "00", "test", "target", "anomaly"),
            (("vel", "8"), ("loc", "G")),
        ),
        ("test/section_00_0000.wav", ("ToyCar", "00", "test", None, None), ()),
        ("test/section_03_test_0199.wav", ("ToyCar", "03", "test", None, None), ()),
    ],
)
def test_names_of_2022_and_later(tmp_path: Path, name: str, expected: tuple, attributes: tuple):
    root = touch(tmp_path, f"ToyCar/{name}")
    assert facts(only(root, layout="dcase2022")) == expected
    assert only(root, layout="dcase2022").attributes == attributes


YEARS = {
    2020: (
        "dcase2020",
        [
            "dev_data/ToyConveyor/train/normal_id_01_00000000.wav",
            "dev_data/ToyConveyor/test/anomaly_id_01_00000354.wav",
            "eval_data/ToyConveyor/train/normal_id_04_00000999.wav",
            "eval_data/ToyConveyor/test/id_04_00000000.wav",
        ],
        [],
    ),
    2021: (
        "dcase2021",
        [
            "dev_data/gearbox/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
            "dev_data/gearbox/source_test/section_00_source_test_anomaly_0000.wav",
            "dev_data/gearbox/target_test/section_00_target_test_normal_0000.wav",
            "eval_data/gearbox/target_test/section_03_target_test_0000.wav",
        ],
        [],
    ),
    2022: (
        "dcase2022",
        [
            "dev_data/bearing/train/section_00_source_train_normal_0000_vel_4_loc_A.wav",
            "dev_data/bearing/test/section_00_target_test_anomaly_0000_vel_22_loc_E.wav",
            "eval_data/bearing/test/section_03_test_0000.wav",
        ],
        ["dev_data/bearing/attributes_00.csv"],
    ),
    2023: (
        "dcase2022",
        [
            "dev_data/ToyCar/train/section_00_source_train_normal_0000_car_A1_spd_28V_mic_1_noise_1.wav",
            "eval_data/ToyDrone/train/section_00_target_train_normal_0000_car_B1_spd_1.wav",
            "eval_data/ToyDrone/test/section_00_0000.wav",
        ],
        ["dev_data/ToyCar/attributes_00.csv", "eval_data/ToyDrone/attributes_00.csv"],
    ),
    2024: (
        "dcase2022",
        [
            "dev_data/gearbox/test/section_00_source_test_normal_0000_noAttributes.wav",
            "eval_data/3DPrinter/train/section_00_source_train_normal_0000_noAttributes.wav",
            "eval_data/BrushlessMotor/test/section_00_0199.wav",
        ],
        ["eval_data/3DPrinter/attributes_00.csv"],
    ),
    2025: (
        "dcase2022",
        [
            "dev_data/bearing/train/section_00_source_train_normal_0000_noAttribute.wav",
            "dev_data/bearing/test/section_00_source_test_anomaly_0000_noAttribute.wav",
            "eval_data/AutoTrash/test/section_00_0000.wav",
        ],
        ["dev_data/bearing/supplemental/section_00_machine_source_0000_noAttribute.wav"],
    ),
    2026: (
        "dcase2022",
        [
            "dev_data/ToyCarEmu/train/section_00_source_train_normal_0000_noAttribute.wav",
            "dev_data/ToyCarEmu/test/section_00_target_test_anomaly_0000_noAttribute.wav",
            "eval_data/ToothBrush/train/section_00_source_train_normal_0000_noAttribute.wav",
        ],
        [],
    ),
}


@pytest.mark.parametrize("year", YEARS)
def test_the_folders_of_every_year_below_parents_of_any_name(tmp_path: Path, year: int):
    """Development and evaluation data are merged, and other files give no clips."""
    layout, clips, others = YEARS[year]
    parent = tmp_path / "section_07" / "[alt] Prüfstand 1_test"
    touch(parent, *clips, *(name for name in others if name.endswith(".wav")))
    for table in (name for name in others if name.endswith(".csv")):
        (parent / table).parent.mkdir(parents=True, exist_ok=True)
        (parent / table).write_text("file_name,d1p,d1v\n")
    corpus = read_corpus([parent / "dev_data", parent / "eval_data"])
    assert corpus.layout == layout
    assert sorted(str(clip.path.relative_to(parent)) for clip in corpus) == sorted(clips)
    for clip in corpus:
        assert clip.machine == clip.path.parent.parent.name
        assert clip.section in ("00", "01", "03", "04")
        assert clip.blind == (not any(word in clip.name for word in ("normal", "anomaly")))


def test_stereo_of_2026_is_refused_until_a_channel_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    for section in ("00", "01"):
        folder = tmp_path / "ToothBrush" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"section_{section}_source_train_normal_0000_noAttribute.wav"
        soundfile.write(folder / name, rng.uniform(-0.5, 0.5, (32_000, 2)), 16_000)
    words = ["check", "--config", "dcase2021", f"--config.data.root={tmp_path}"]
    assert main(words) == 2
    assert "--config.data.channel=1 for one channel" in " ".join(capsys.readouterr().out.split())
    for channel in ("mean", "1", "2"):
        assert main([*words, "--config.data.on_mismatch=convert", f"--config.data.channel={channel}"]) == 0


def test_2022_is_recognised_by_its_test_folder_or_its_attribute_tables(tmp_path: Path):
    train = "fan/train/section_00_source_train_normal_0000_m-n_W.wav"
    assert read_corpus([touch(tmp_path / "a", train)]).layout == "dcase2021"
    root = touch(tmp_path / "b", train, "fan/test/section_00_0000.wav")
    assert read_corpus([root]).layout == "dcase2022"
    root = touch(tmp_path / "c", train)
    (root / "fan/attributes_00.csv").write_text("file_name,d1p,d1v\n")
    assert read_corpus([root]).layout == "dcase2022"


def test_attribute_tables_win_over_names(tmp_path: Path):
    listed = "section_00_source_train_normal_0000_m-n_W.wav"
    unlisted = "section_00_source_train_normal_0001_m-n_X.wav"
    root = touch(tmp_path, f"fan/train/{listed}", f"fan/train/{unlisted}")
    table = f"file_name,d1p,d1v,d2p,d2v\nfan/train/{listed},m-n,Z,spd,3\n"
    (root / "fan" / "attributes_00.csv").write_text(table)
    first, second = read_corpus([root])
    assert first.attributes == (("m-n", "Z"), ("spd", "3"))
    assert second.attributes == (("m-n", "X"),)


def test_an_attribute_table_with_other_columns_is_refused(tmp_path: Path):
    root = touch(tmp_path, "fan/train/section_00_source_train_normal_0000_m-n_W.wav")
    (root / "fan" / "attributes_00.csv").write_text("name,speed\n")
    with pytest.raises(InputError, match=r"attributes_00\.csv: expected columns file_name"):
        read_corpus([root])


def test_attributes_pair_up_or_are_kept_whole():
    assert split_attributes("vel_9_loc_A") == (("vel", "9"), ("loc", "A"))
    assert split_attributes("0_g_25_mm_2000_mV_none") == (("attributes", "0_g_25_mm_2000_mV_none"),)
    assert split_attributes("") == split_attributes("noAttribute") == ()


@pytest.mark.parametrize(
    ("folder", "layout", "clips", "machines"),
    [
        ("uav", "dcase2021", 406, ("UAVsquare",)),
        ("dcase2020", "dcase2020", 66, ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve")),
        (
            "dcase2023",
            "dcase2022",
            28,
            ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
        ),
    ],
)
def test_real_clips(shared_data: Path, folder: str, layout: str, clips: int, machines: tuple):
    corpus = read_corpus([shared_data / "sounds" / folder])
    assert (corpus.layout, len(corpus), corpus.machines) == (layout, clips, machines)
    assert all(clip.path.is_file() for clip in corpus)
    assert not scan([shared_data / "sounds" / folder]).left_out


def test_real_uav_clips_count_as_their_readme_says(shared_data: Path):
    corpus = read_corpus([shared_data / "sounds" / "uav"])
    for section in ("00", "01"):
        assert len(corpus.select(section=section, split="train", domain="source")) == 100
        assert len(corpus.select(section=section, split="train", domain="target")) == 3
        for domain in ("source", "target"):
            labels = [c.label for c in corpus.select(section=section, split="test", domain=domain)]
            assert (labels.count("normal"), labels.count("anomaly")) == (20, 30)


def test_folders_above_may_be_called_anything(tmp_path: Path):
    root = tmp_path / "section_07_target" / "[old] *" / "Geräusche 音 train"
    touch(
        root, "fan/train/section_00_source_train_normal_0000_x.wav", "fan/source_test/section_00_source_test_0000.wav"
    )
    corpus = read_corpus([root])
    assert [(clip.section, clip.domain) for clip in corpus] == [("00", "source")] * 2


def test_roots_merge_and_order_is_machine_split_section_domain_name(tmp_path: Path):
    names = [
        "fan/train/section_00_source_train_normal_0000_x.wav",
        "fan/train/section_00_source_train_normal_0001_x.wav",
        "fan/train/section_00_target_train_normal_0000_x.wav",
        "fan/train/section_01_source_train_normal_0000_x.wav",
        "fan/train/section_03_source_train_normal_0000_x.wav",
        "fan/source_test/section_00_source_test_normal_0000.wav",
        "fan/target_test/section_00_target_test_anomaly_0000.wav",
        "pump/train/section_00_source_train_normal_0000_x.wav",
    ]
    shuffled = random.Random(0).sample(names, len(names))
    dev, evaluation = touch(tmp_path / "dev_data", *shuffled[:4]), touch(tmp_path / "eval_data", *shuffled[4:])
    for roots in ([dev, evaluation], [evaluation, dev]):
        found = [str(clip.path).split("_data/")[1] for clip in read_corpus(roots, "dcase2021")]
        assert found == names


def test_linked_folders_are_followed(tmp_path: Path):
    real = touch(tmp_path / "disk", "fan/train/section_00_source_train_normal_0000_x.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "Lüfter").symlink_to(real / "fan")
    assert only(tmp_path / "root").machine == "Lüfter"


def test_machines_choose_and_unknown_ones_are_named(tmp_path: Path):
    train = "train/section_00_source_train_normal_0000_x.wav"
    root = touch(tmp_path, f"fan/{train}", f"pump/{train}", "valve/train/nonsense.wav")
    assert read_corpus([root], machines=["pump"]).machines == ("pump",)
    with pytest.raises(InputError, match=r"fan, pump, valve.*got toycar"):
        read_corpus([root], machines=["fan", "toycar"])


def test_what_is_passed_over_is_listed(tmp_path: Path):
    root = touch(
        tmp_path,
        "fan/train/section_00_source_train_normal_0000_x.wav",
        "fan/train/._section_00_source_train_normal_0000_x.wav",
        "fan/train/notes.txt",
        "fan/supplemental/section_00_machine_source_0000_noAttribute.wav",
        "docs/readme.pdf",
    )
    (root / "fan" / "train" / "deeper").mkdir()
    found = scan([root])
    assert len(found.clips) == 1
    left_out = {str(path.relative_to(root)) for path in found.left_out}
    assert left_out == {"fan/train/notes.txt", "fan/train/deeper", "fan/supplemental", "docs"}


@pytest.mark.parametrize(
    "name",
    [
        "train/section_00_source_test_anomaly_0000.wav",
        "train/section_00_source_train_anomaly_0000.wav",
        "source_test/section_00_target_test_normal_0000.wav",
        "source_test/section_00_source_train_normal_0000.wav",
        "test/section_00_0000.wav",
        "train/section_0x_source_train_normal_0000.wav",
        "train/section_٣_source_train_normal_0000.wav",
        "train/recording 7.wav",
        "train/section_00_source_test_normal_0000.flac",
    ],
)
def test_a_name_that_does_not_fit_its_folder_is_refused(tmp_path: Path, name: str):
    root = touch(tmp_path, "fan/source_test/section_00_source_test_0000.wav", f"fan/{name}", "fan/train/b.wav")
    with pytest.raises(InputError) as refused:
        read_corpus([root], "dcase2021")
    message = str(refused.value)
    assert "section_00_source_train_normal_0000_<attributes>.wav" in message
    assert "(and 1 more)" in message
    found = scan([root], "dcase2021")
    assert {one.where for one in found.unparsed} == {str(root / "fan" / name), str(root / "fan/train/b.wav")}


def test_a_clip_in_two_roots_is_refused_with_both_paths(tmp_path: Path):
    name = "fan/train/section_00_source_train_normal_0000_x.wav"
    roots = [touch(tmp_path / "a", name), touch(tmp_path / "b", name)]
    with pytest.raises(InputError) as refused:
        read_corpus(roots)
    assert all(str(root / name) in str(refused.value) for root in roots)


def test_2020_may_number_training_and_test_clips_alike(tmp_path: Path):
    root = touch(tmp_path, "fan/train/normal_id_00_00000000.wav", "fan/test/normal_id_00_00000000.wav")
    assert len(read_corpus([root])) == 2


def test_roots_of_two_layouts_are_refused(tmp_path: Path):
    one = touch(tmp_path / "a", "fan/train/normal_id_00_00000000.wav")
    other = touch(tmp_path / "b", "fan/source_test/section_00_source_test_0000.wav")
    with pytest.raises(InputError, match="expected one layout, got dcase2020"):
        read_corpus([one, other])


def test_roots_that_hold_no_machine_types_say_what_to_do(tmp_path: Path):
    clip = "fan/train/section_00_source_train_normal_0000_x.wav"
    root = touch(tmp_path / "dev_data", clip)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "fan" / "train").mkdir(parents=True)
    for given, message in [
        (tmp_path / "missing", "nothing there"),
        (root / clip, "got a file"),
        (tmp_path / "empty", "expected folders of machine types"),
        (tmp_path / "hollow", "expected recordings, got none"),
        (tmp_path, f"did you mean {root}"),
        (root / "fan", f"got the folder of one; give its parent {root}"),
    ]:
        with pytest.raises(InputError) as refused:
            read_corpus([given])
        assert message in str(refused.value)
        assert str(refused.value).startswith(str(given))
    with pytest.raises(InputError, match=r"data\.root"):
        read_corpus([])
    with pytest.raises(InputError, match=r"data\.layout"):
        read_corpus([root], "dcase1999")


MANIFEST = """path,machine,section,domain,split,label,attributes
a/1.wav,press,left,,train,,rpm=900;load=low
b/1.wav,press,left,target,train,normal,
"c, d/1.wav",press,left,source,test,anomaly,
e/2.wav,press,left,,test,,
/elsewhere/3.wav,lathe,0,,test,normal,
"""


def test_a_manifest_says_everything_itself(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("\ufeff" + MANIFEST.replace("\n", "\r\n"), encoding="utf-8")
    corpus = read_corpus([tmp_path])
    assert corpus.layout == "manifest"
    assert [(str(clip.path), *facts(clip)) for clip in corpus] == [
        ("/elsewhere/3.wav", "lathe", "0", "test", "source", "normal"),
        (str(tmp_path / "a/1.wav"), "press", "left", "train", "source", "normal"),
        (str(tmp_path / "b/1.wav"), "press", "left", "train", "target", "normal"),
        (str(tmp_path / "c, d/1.wav"), "press", "left", "test", "source", "anomaly"),
        (str(tmp_path / "e/2.wav"), "press", "left", "test", "source", None),
    ]
    assert corpus.clips[1].attributes == (("rpm", "900"), ("load", "low"))
    assert read_corpus([tmp_path], machines=["lathe"]).machines == ("lathe",)


def test_a_tilde_in_a_manifest_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = touch(tmp_path / "home", "recordings/a.wav")
    root = touch(tmp_path / "data", "~/b.wav", "~c.wav")
    monkeypatch.setenv("HOME", str(home))
    names = ["~/recordings/a.wav", "~/b.wav", "~c.wav", "~no-such-user/d.wav"]
    rows = "".join(f"{name},press,left,,train\n" for name in names)
    (root / "manifest.csv").write_text(f"path,machine,section,domain,split\n{rows}")
    found = scan([root])
    assert {clip.path for clip in found.clips} == {home / "recordings/a.wav", root / "~/b.wav", root / "~c.wav"}
    ((where, reason, _),) = found.unparsed
    assert where.endswith("manifest.csv line 5")
    assert "expected a home folder for ~" in reason


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.wav,press,left,sauce,train,,", "domain: expected empty or source or target, got 'sauce'"),
        ("x.wav,press,left,,dev,,", "split: expected train or test, got 'dev'"),
        ("x.wav,press,left,,test,broken,", "label: expected empty or normal or anomaly, got 'broken'"),
        ("x.wav,press,left,,train,anomaly,", "expected normal training clips only, got one labelled anomaly"),
        ("x.wav,../press,left,,train,,", "control characters, got '../press'"),
        ("x.wav,press,,,train,,", "section: expected a name"),
        (f"x.wav,{'p' * 101},left,,train,,", "expected a name of at most 100 bytes"),
        (",press,left,,train,,", "expected a path, got an empty cell"),
        ("x.wav,press,left,,train,,loud", "attributes: expected name=value;name=value, got 'loud'"),
        ("x.wav,press", "expected 7 cells, got 2"),
    ],
)
def test_a_bad_manifest_row_is_named_by_its_line(tmp_path: Path, row: str, message: str):
    (tmp_path / "manifest.csv").write_text(f"{MANIFEST}{row}\n")
    with pytest.raises(InputError, match=r"manifest\.csv line 7: ") as refused:
        read_corpus([tmp_path])
    assert message in str(refused.value)
    assert len(scan([tmp_path]).clips) == 5


def test_manifest_tables_and_roots_that_are_none_are_refused(tmp_path: Path):
    table = tmp_path / "manifest.csv"
    for content, message in [
        (b"", "got an empty file; write them"),
        (b"path machine section split\n", "; separate its cells by commas"),
        (b"path;machine\n", "got none of section, split; correct its first line"),
        (b"path,machine,section,split,lable\n", "got a column 'lable'; correct its first line"),
        (b"path,machine,split\n", "got none of section; correct its first line"),
        ("path,machine,section,split\nä.wav,m,0,train\n".encode("latin-1"), "CSV in UTF-8"),
        (b'path,machine,section,split\na.wav,m,0,train\n"b.wav,m,0,train\n', "manifest.csv line 3: expected CSV, got"),
    ]:
        table.write_bytes(content)
        with pytest.raises(InputError) as refused:
            read_corpus([tmp_path])
        assert message in str(refused.value)
    table.write_text(MANIFEST)
    other = touch(tmp_path / "dev", "fan/train/section_00_source_train_normal_0000_x.wav")
    with pytest.raises(InputError, match=r"expected a file manifest\.csv in it"):
        read_corpus([tmp_path, other])


def test_a_manifest_row_given_twice_is_refused(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text(MANIFEST + "a/1.wav,press,left,,train,,\n")
    with pytest.raises(InputError, match="the same machine type, section and name"):
        read_corpus([tmp_path])


def test_a_real_copy_needs_no_attribute_tables(tmp_path: Path, shared_data: Path):
    shutil.copytree(shared_data / "sounds/dcase2023/fan", tmp_path / "fan")
    clips = read_corpus([tmp_path]).clips
    assert {clip.attributes[0] for clip in clips} == {("m-n", "W"), ("m-n", "X"), ("m-n", "Y")}
