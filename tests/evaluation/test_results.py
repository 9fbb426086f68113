"""Files of an evaluation: results.json as designed, table, score files; several seeds."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import bootstrap, results
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.results_table import SystemRow, as_markdown, as_text, list_rows
from asdjax.evaluation.systems import System
from asdjax.inference import stored_results
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import Threshold
from asdjax.runtime.files import add_checksum

BY_MACHINE = ("machines", "thresholds", "unscored_training_clips", "members")
KEYS = {"official", "interval", "selection", "cells", "undefined_cells", "baselines", *BY_MACHINE}
CELL = {"machine", "section", "domain", "auc", "pauc", "precision", "recall", "f1", "false_alarms", "found"}
ABOUT = {
    "year": 2021,
    "split": "dev",
    "config": {"evaluate": {"threshold_per": "machine"}},
    "accepted": [],
    "evaluated": {},
    "clip_seconds": {},
    "default_system": "all_mean",
    "layout": "dcase2021",
    "sensitivity": {},
    "warnings": [],
    "training_clips": {},
}
MACHINES = ("ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve")


def system(seed: int, selection: str = "none", machines: tuple[str, ...] = ("fan",), labels: bool = True) -> System:
    rng = np.random.default_rng(seed)
    clips = tuple(
        ScoredClip(
            f"section_00_{domain}_test_{label}_{i:04d}.wav",
            machine,
            "00",
            domain,
            label if labels else None,
            float(rng.normal() + (label == "anomaly")),
            bool(rng.random() < 0.5),
        )
        for machine in machines
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(5)
    )
    thresholds = {(machine, None, None): Threshold(1.5, "gamma", 7, 0.1) for machine in machines}
    training = {Clip(Path(f"train_{i}.wav"), machines[0], "00", "train", "source", "normal"): float(i) for i in (1, 2)}
    members = dict.fromkeys(machines, ("a", "b"))
    return System(
        selection=selection,
        clips=clips,
        metrics=compute_metrics(2021, clips),
        thresholds=thresholds,
        training=training,
        unscored={"fan": 3},
        members=members,
        baselines=(),
    )


def written(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(), parse_constant=lambda text: pytest.fail(text))


def test_results_json_of_one_seed(tmp_path: Path):
    systems = {"a": system(0), "best_single": system(1, "labelled test")}
    about = {"checkpoints": {"fan/phase1": 6}, **ABOUT}
    results.write(tmp_path, 2021, {0: systems}, about)
    content = written(tmp_path)
    assert set(content) == {
        "accepted",
        "year",
        "split",
        "checkpoints",
        "config",
        "evaluated",
        "clip_seconds",
        "clips",
        "default_system",
        "layout",
        "sensitivity",
        "training_clips",
        "systems",
        "warnings",
        "sha256",
    }
    assert (content["year"], content["split"], content["checkpoints"]) == (2021, "dev", {"fan/phase1": 6})
    assert list(content["systems"]) == ["a", "best_single"]
    for name, entry in content["systems"].items():
        of = systems[name]
        assert set(entry) == KEYS
        assert entry["machines"]["fan"].keys() == {"auc", "pauc"}
        assert (entry["official"], entry["selection"]) == (of.metrics.official, of.selection)
        assert [(cell["machine"], cell["section"], cell["domain"]) for cell in entry["cells"]] == [
            ("fan", "00", "source"),
            ("fan", "00", "target"),
        ]
        assert all(set(cell) == CELL for cell in entry["cells"])
        assert [cell["auc"] for cell in entry["cells"]] == [cell.auc for cell in of.metrics.cells]
        assert entry["thresholds"] == [
            {"machine": "fan", "section": None, "domain": None}
            | {"value": 1.5, "rule": "gamma", "clips": 7, "false_alarms": 0.1}
        ]
        assert entry["unscored_training_clips"] == {"fan": 3}
        assert entry["members"] == {"fan": ["a", "b"]}
    assert (tmp_path / "scores" / "a" / "anomaly_score_fan_section_00_source_test.csv").is_file()


def test_the_report_of_an_earlier_evaluation_goes_with_it(tmp_path: Path):
    (tmp_path / "report.html").write_text("of other numbers")
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    assert not (tmp_path / "report.html").exists()


def test_several_seeds_give_means_with_their_spread_and_interval(tmp_path: Path):
    by_seed = {seed: {"all_mean": system(seed)} for seed in (3, 4, 5)}
    results.write(tmp_path, 2021, by_seed, ABOUT)
    entry = written(tmp_path)["systems"]["all_mean"]
    officials = np.array([of["all_mean"].metrics.official for of in by_seed.values()], float)
    assert entry["seeds"] == [3, 4, 5]
    assert entry["official"] == pytest.approx(officials.mean())
    assert entry["spread"] == pytest.approx(officials.std(ddof=1))
    assert entry["interval"] == list(
        bootstrap.compute_interval(2021, [of["all_mean"].clips for of in by_seed.values()]) or ()
    )
    aucs = [[cell.auc for cell in of["all_mean"].metrics.cells] for of in by_seed.values()]
    assert [cell["auc"] for cell in entry["cells"]] == pytest.approx(np.mean(np.array(aucs, float), axis=0))
    for share in ("false_alarms", "found"):
        shares = [[getattr(cell, share) for cell in of["all_mean"].metrics.cells] for of in by_seed.values()]
        assert [cell[share] for cell in entry["cells"]] == pytest.approx(np.mean(np.array(shares), axis=0))
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {f"all_mean@{seed}" for seed in (3, 4, 5)}


def test_each_seeds_thresholds_and_members_are_told(tmp_path: Path):
    results.write(tmp_path, 2021, {seed: {"all_mean": system(seed)} for seed in (3, 1)}, ABOUT)
    entry = written(tmp_path)["systems"]["all_mean"]
    assert list(entry["by_seed"]) == ["3", "1"]
    entry_of_seed = stored_results.select_seed(entry, 1)
    assert entry_of_seed["members"] == {"fan": ["a@1", "b@1"]}
    assert entry_of_seed["thresholds"][0]["false_alarms"] == 0.1


def test_a_system_that_a_seed_lacks_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole = {"all_mean": system(0), "best_held_out": system(1, "held-out normals")}
    results.write(tmp_path, 2021, {1: whole, 2: {"all_mean": system(2)}}, ABOUT)
    assert list(written(tmp_path)["systems"]) == ["all_mean"]
    assert "best_held_out: left out, seed 2 lacks it" in capsys.readouterr().err


def test_what_labels_chose_is_an_upper_bound_only_where_it_is_judged_on_the_same_clips():
    for split, expected in (("dev", "an upper bound, not a result"), ("eval", "evaluated on other clips")):
        (shown,) = [replace(row, split=split) for row in rows() if row.selection == "labelled test"]
        assert expected in " ".join(as_text([shown]).split())
        assert ("upper bound" in as_text([shown])) == (split == "dev")


def test_over_several_seeds_the_table_tells_the_spread():
    (shown,) = [replace(row, spread=0.0123) for row in rows() if row.system == "best_single"]
    assert "70.00 ± 1.23" in as_text([shown])
    assert "±: standard deviation over the seeds" in as_text([shown])
    assert "±" not in as_text(rows())


def test_a_bar_in_a_name_does_not_split_a_cell_of_table_md():
    table = as_markdown([row(system="a|b", figures={"fan|2": (0.5, 0.5)})])
    assert r"| a\|b |" in table
    assert r"| fan\|2 |" in table


@pytest.mark.parametrize(("there", "expected"), [(["dev"], "dev"), (["eval"], "eval"), (["eval", "dev"], "dev")])
def test_by_default_it_is_dev_if_it_was_evaluated(there: list[str], expected: str, tmp_path: Path):
    for split in there:
        (tmp_path / "evaluation" / split).mkdir(parents=True)
        (tmp_path / "evaluation" / split / "results.json").write_text("{}")
    assert stored_results.find_evaluation(tmp_path, None).name == expected
    for split in {"dev", "eval"} - set(there):
        with pytest.raises(InputError, match="expected an evaluation, got none"):
            stored_results.find_evaluation(tmp_path, split)


def test_a_threshold_of_another_value_than_was_written_is_noticed(tmp_path: Path):
    results.write(tmp_path, 2021, {0: {"all_mean": system(0)}}, ABOUT)
    file = tmp_path / "results.json"
    assert stored_results.read_results(tmp_path)["systems"]["all_mean"]["thresholds"][0]["value"] == 1.5
    file.write_text(file.read_text().replace('"value": 1.5', '"value": 7.5'))
    with pytest.raises(InputError, match=r"results.json: not what was written; run asdjax evaluate again"):
        stored_results.read_results(tmp_path)


def test_undefined_figures_are_null(tmp_path: Path):
    unlabelled = {seed: {"all_mean": system(seed, labels=False)} for seed in (0, 1)}
    results.write(tmp_path, 2021, unlabelled, ABOUT)
    entry = written(tmp_path)["systems"]["all_mean"]
    assert (entry["official"], entry["spread"], entry["interval"], entry["undefined_cells"]) == (None, None, None, 2)
    assert all(cell["auc"] is None for cell in entry["cells"])
    assert "No test clip has a label, so there are no figures" in (tmp_path / "table.md").read_text()


def test_score_folders_of_an_earlier_evaluation_vanish(tmp_path: Path):
    results.write(tmp_path, 2021, {0: {"old": system(0), "all_mean": system(1)}}, ABOUT)
    results.write(tmp_path, 2021, {0: {"all_mean": system(1)}}, ABOUT)
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["all_mean"]
    assert "old" not in (tmp_path / "table.md").read_text()


def test_score_files_that_cannot_be_written_leave_an_earlier_evaluation_standing(tmp_path: Path):
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    good = system(1)
    bad = replace(good, clips=(replace(good.clips[0], section="0_0"), *good.clips[1:]))
    with pytest.raises(InputError, match="0_0"):
        results.write(tmp_path, 2021, {0: {"a": good, "b": bad}}, ABOUT)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["table.md", "results.json"])
def test_a_disk_that_fills_up_leaves_an_earlier_evaluation_standing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(path: Path, text: str):
        path.write_text(text[:10])
        if path.name.startswith(name):
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(results, "write_to_disk", full)
    with pytest.raises(OSError, match="no space left"):
        results.write(tmp_path, 2021, {0: {"a": system(1)}}, ABOUT)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_files_of_an_earlier_evaluation_that_cannot_go_yet_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A network disk may refuse to remove files that are open."""
    with monkeypatch.context() as busy:
        busy.setattr(results.shutil, "rmtree", lambda *_, **__: None)
        for seed in range(3):
            written = results.write(tmp_path, 2021, {0: {"a": system(seed)}}, ABOUT)
    assert len(list(tmp_path.glob("earlier.*/scores/a"))) == 2
    results.write(tmp_path, 2021, {0: {"a": system(2)}}, ABOUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "results.json", "scores", "table.md"]
    assert stored_results.read_results(written.folder)["systems"]


def test_results_json_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    moved, replace_path = [], Path.replace

    def watched(path: Path, to: Path) -> Path:
        moved.append(to.name)
        assert not (tmp_path / "results.json").exists()
        return replace_path(path, to)

    monkeypatch.setattr(Path, "replace", watched)
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    assert moved == ["scores", "clips", "table.md", "results.json"]


def test_an_evaluation_of_an_earlier_version_is_told(tmp_path: Path):
    (tmp_path / "results.json").write_text(json.dumps(add_checksum({"year": 2021})))
    with pytest.raises(InputError, match="of an earlier version of asdjax; run asdjax evaluate again"):
        stored_results.read_results(tmp_path)


def test_another_evaluation_in_the_same_place_is_noticed(tmp_path: Path):
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    found = stored_results.read_results(tmp_path)
    results.write(tmp_path, 2021, {0: {"a": system(0)}}, ABOUT)
    stored_results.require_unchanged(tmp_path, found)
    results.write(tmp_path, 2021, {0: {"a": system(1)}}, ABOUT)
    with pytest.raises(
        InputError, match="expected the same evaluation throughout, got a newer one; run the command again"
    ):
        stored_results.require_unchanged(tmp_path, found)
    (tmp_path / "results.json").unlink()
    with pytest.raises(InputError, match="got a newer one"):
        stored_results.require_unchanged(tmp_path, found)


def row(**fields: Any) -> SystemRow:
    defaults = {"system": "a", "official": 0.5, "interval": None, "selection": "none", "undefined": 0}
    return SystemRow(**{**defaults, **fields})


def rows() -> list[SystemRow]:
    figures = {machine: (0.5 + i / 100, None if i == 2 else 0.6) for i, machine in enumerate(MACHINES)}
    return [
        row(
            system="mobilefacenet_1024",
            figures=figures,
            official=0.61,
            interval=(0.5853, 0.6347),
            undefined=1,
            found=0.8125,
            false_alarms=0.095,
        ),
        row(system="best_single", figures=figures, official=0.7, selection="labelled test", undefined=1),
    ]


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_the_table_fits_the_terminal_and_loses_nothing(width: int):
    table, _, notes = as_text(rows(), width).partition("\n\nBy machine")
    lines = table.splitlines()
    if width >= 34:  # a name and one column
        assert max(map(len, [*lines, *notes.splitlines()])) <= width
    heads = [line for line in lines if line.startswith("AUC/pAUC")]
    assert " ".join(heads).replace("AUC/pAUC in %", "").split() == [
        *(*MACHINES, "official", "95", "%", "interval", "found", "false", "alarms")
    ]
    assert ("81.25" in table, "9.50" in table) == (True, True)
    assert "shares of anomalous and of normal clips that raise an alarm" in " ".join(notes.split())
    assert "58.53-63.47" in table
    if width >= 70:  # what is over all machine types stays on one line
        assert heads[-1].endswith("found  false alarms")
        assert "official" in heads[-1]
    assert (len(heads) == 1) == (width == 200)
    assert "best_single*" in table
    assert "52.00/-" in table
    assert "an upper bound, not a result" in " ".join(notes.split())
    assert "1 cells are undefined" in " ".join(notes.split())


def test_the_table_has_means_over_cells_of_faults_found_and_false_alarms(tmp_path: Path):
    by_seed = {seed: {"all_mean": system(seed)} for seed in (3, 4)}
    (mean,) = list_rows(results.write(tmp_path, 2021, by_seed, ABOUT).content)
    cells = written(tmp_path)["systems"]["all_mean"]["cells"]
    decided = [clip for of in by_seed.values() for clip in of["all_mean"].clips]
    for share, label in ((mean.found, "anomaly"), (mean.false_alarms, "normal")):
        assert share == pytest.approx(np.mean([clip.decision for clip in decided if clip.label == label]))
    assert mean.found == pytest.approx(np.mean([cell["found"] for cell in cells]))
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[0].endswith("| found | false alarms |")
    assert table[2].endswith(f"| {100 * mean.found:.2f} | {100 * mean.false_alarms:.2f} |")


def test_table_md_marks_what_labels_chose(tmp_path: Path):
    systems = {"all_mean": system(0), "best_single": system(1, "labelled test")}
    shown = results.write(tmp_path, 2021, {0: systems}, ABOUT)
    table = (tmp_path / "table.md").read_text()
    assert "| best_single* |" in table
    assert "| all_mean |" in table
    official = shown.content["systems"]["all_mean"]["official"]
    assert official is not None
    assert f"| {100 * official:.2f} |" in table
