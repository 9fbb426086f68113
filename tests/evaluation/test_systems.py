"""Systems: which models an ensemble averages, and whether labels of the test data chose them."""

from pathlib import Path

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import systems
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.systems import Models, System, build_baselines, build_joint_systems, build_systems
from asdjax.inference.clip_scores import ClipScores

NAMES = ("a", "b", "c", "d", "e", "f")


def clips(machine: str, labelled: bool = True) -> tuple[list[Clip], list[Clip]]:
    train = [Clip(Path(machine, f"train_{i}.wav"), machine, "00", "train", "source", "normal") for i in range(6)]
    test = [
        Clip(Path(machine, f"{domain}_{label}_{i}.wav"), machine, "00", "test", domain, label if labelled else None)
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(4)
    ]
    return train, test


def scores(machine: str, skill: float, seed: int, labelled: bool = True) -> ClipScores:
    """`skill`: how far anomalies lie above normals, in deviations."""
    rng = np.random.default_rng(seed)
    train, test = clips(machine, labelled)
    lifted = {one: float(10 + rng.normal() + skill * ("anomaly" in one.name)) for one in test}
    return ClipScores({one: float(10 + rng.normal()) for one in train}, lifted)


SKILLS = {"fan": (0, 1, 2, 4, 6, 9), "pump": (9, 6, 4, 2, 1, 0)}
MODELS: Models = {
    machine: {name: scores(machine, skill, 7 * i) for i, (name, skill) in enumerate(zip(NAMES, skills, strict=True))}
    for machine, skills in SKILLS.items()
}
JUDGED = [clip for machine in SKILLS for clip in clips(machine)[1]]


def judged(
    models: Models = MODELS, of: list[Clip] = JUDGED, held_out: dict[str, dict[str, float]] | None = None
) -> dict[str, System]:
    return build_systems(default_config(), 2021, models, of, held_out or {})


def test_models_come_first_then_the_four_submissions():
    got = judged()
    assert list(got) == [*NAMES, "best_single", "top3_mean", "top5_mean", "all_mean"]
    labelled = {name for name, system in got.items() if system.selection == "labelled test"}
    assert labelled == {"best_single", "top3_mean", "top5_mean"}
    assert {system.selection for name, system in got.items() if name not in labelled} == {"none"}


def test_a_model_that_a_machine_type_lacks_is_no_single_system_but_enters_the_ensembles_of_the_others():
    models: Models = {"fan": MODELS["fan"], "pump": {name: MODELS["pump"][name] for name in ("a", "b")}}
    got = judged(models)
    assert list(got) == ["a", "b", "best_single", "top3_mean", "top5_mean", "all_mean"]
    assert got["all_mean"].members == {"fan": NAMES, "pump": ("a", "b")}


def test_each_machine_type_ranks_its_own_models_by_its_official_score():
    got = judged()
    for machine in SKILLS:
        official = {
            name: compute_metrics(
                2021, systems._scored_clips(MODELS[machine][name], clips(machine)[1], [None] * 16)
            ).official
            for name in NAMES
        }
        ranked = sorted(NAMES, key=lambda name: -(official[name] or 0))
        for name, number in {"best_single": 1, "top3_mean": 3, "top5_mean": 5}.items():
            assert got[name].members[machine] == tuple(ranked[:number])
        assert got["all_mean"].members[machine] == NAMES
    assert got["best_single"].members["fan"] != got["best_single"].members["pump"]


def test_an_ensemble_is_the_mean_and_decides_strictly_above_its_threshold():
    got = judged()["all_mean"]
    by_name = {(clip.machine, clip.name): clip for clip in got.clips}
    assert len(by_name) == len(JUDGED)
    for clip in JUDGED:
        expected = np.mean([MODELS[clip.machine][name].test[clip] for name in NAMES])
        scored = by_name[clip.machine, clip.name]
        assert scored.score == pytest.approx(expected)
        assert scored.decision == (scored.score > got.thresholds[clip.machine, None, None].value)


def test_unlabelled_clips_are_judged_without_selection(capsys: pytest.CaptureFixture[str]):
    models: Models = {"fan": {name: scores("fan", 1, i, labelled=False) for i, name in enumerate("ab")}}
    got = judged(models, clips("fan", labelled=False)[1])
    assert list(got) == ["a", "b", "all_mean"]
    assert got["all_mean"].judgement.official is None
    assert all(clip.decision is not None for clip in got["all_mean"].clips)
    assert "fan cannot be ranked" in capsys.readouterr().err


def test_labelled_clips_rank_models_for_unlabelled_ones():
    """As for the challenge's evaluation set: chosen on the development clips, judged on the others."""
    unlabelled = [
        Clip(Path(f"new_{i}.wav"), machine, "00", "test", "source", None) for machine in SKILLS for i in range(3)
    ]
    models: Models = {
        machine: {
            name: ClipScores(of.train, {**of.test, **{c: 10.0 for c in unlabelled if c.machine == machine}})
            for name, of in of_machine.items()
        }
        for machine, of_machine in MODELS.items()
    }
    got = judged(models, unlabelled)
    assert got["top3_mean"].members == judged()["top3_mean"].members
    assert len(got["top3_mean"].clips) == len(unlabelled)


def test_a_machine_type_without_a_threshold_is_named():
    with pytest.raises(InputError, match="fan: no training clip has a score"):
        judged({"fan": {"a": ClipScores({}, MODELS["fan"]["a"].test)}}, clips("fan")[1])


def test_a_threshold_that_is_not_the_gamma_rule_s_is_said(capsys: pytest.CaptureFixture[str]):
    assert judged()["all_mean"].thresholds["fan", None, None].rule == "gamma"
    assert "threshold of" not in capsys.readouterr().err
    twice = next(iter(MODELS["fan"]["a"].train))
    models: Models = {
        **MODELS,
        "fan": {name: of._replace(train={**of.train, twice: 0.0}) for name, of in MODELS["fan"].items()},
    }
    assert judged(models)["all_mean"].thresholds["fan", None, None].rule == "empirical"
    assert "threshold of fan: a percentile of the training scores themselves" in capsys.readouterr().err


def test_held_out_clips_rank_models_without_any_label():
    """The loss says the contrary of the labels here, and is what counts."""
    held_out = {machine: dict(zip(NAMES, skill, strict=True)) for machine, skill in SKILLS.items()}
    got = judged(held_out=held_out)
    assert list(got)[6:] == ["best_single", "top3_mean", "top5_mean", "best_held_out", "top3_held_out", "all_mean"]
    assert got["top3_held_out"].selection == got["best_held_out"].selection == "held-out normals"
    assert got["top3_held_out"].members == {"fan": NAMES[:3], "pump": NAMES[:2:-1]}
    assert got["best_held_out"].members == {"fan": NAMES[:1], "pump": NAMES[-1:]}


def test_what_held_out_clips_do_not_tell_is_left_out_and_said(capsys: pytest.CaptureFixture[str]):
    told = {"fan": dict.fromkeys(NAMES, 1.0), "pump": {"a": 1.0}}
    assert "best_held_out" not in judged(held_out=told)
    assert "best_held_out, top3_held_out: left out, of pump nothing was told" in capsys.readouterr().err
    assert "best_held_out" not in judged()
    assert "held_out" not in capsys.readouterr().err


def without(models: Models, name: str, *, train: int = 0, test: int = 0) -> Models:
    """Models of the fan of which one lacks the first so many scores."""
    (of_train, of_test), scores = clips("fan"), models["fan"][name]
    left = ClipScores(
        {clip: scores.train[clip] for clip in of_train[train:]},
        {clip: scores.test[clip] for clip in of_test[test:]},
        tuple(of_train[:train]),
    )
    return {**models, "fan": {**models["fan"], name: left}}


@pytest.mark.parametrize("name", ["a", "c", "f"])
@pytest.mark.parametrize("how", ["all", "seeds"])
def test_a_clip_to_judge_without_a_finite_score_is_one_error_whichever_model_lacks_it(name: str, how: str):
    lacking = without(MODELS, name, test=2)
    judgements = {
        "all": lambda: judged(lacking),
        "seeds": lambda: build_joint_systems(default_config(), 2021, {3: MODELS, 4: lacking}, JUDGED),
    }
    suffix = "@4" if how == "seeds" else ""
    told = rf"source_normal_0\.wav: expected a score, got none that is finite by {name}{suffix} \(as 2 clips in all\)"
    with pytest.raises(InputError, match=told):
        judgements[how]()


@pytest.mark.parametrize("name", ["a", "c", "f"])
def test_training_clips_that_one_model_lacks_enter_no_threshold_and_are_counted(
    name: str, capsys: pytest.CaptureFixture[str]
):
    got = judged(without(MODELS, name, train=2))
    assert f"fan: 2 training clips enter no threshold of an ensemble, as they have no finite score by {name}" in (
        capsys.readouterr().err
    )
    assert got["all_mean"].unscored == {"fan": 2, "pump": 0}
    assert got["all_mean"].thresholds["fan", None, None].clips == 4
    assert {other for other in NAMES if got[other].unscored["fan"]} == {name}


@pytest.mark.parametrize("name", ["a", "f"])
def test_models_are_ranked_on_the_clips_that_all_of_them_have(name: str, capsys: pytest.CaptureFixture[str]):
    """As for the split eval, where clips that are not judged rank the models."""
    lacking = without(MODELS, name, test=1)
    rest = [clip for clip in JUDGED if clip not in clips("fan")[1][:1]]
    got = judged(lacking, rest)
    common: Models = {
        **MODELS,
        "fan": {
            one: scores._replace(test={clip: scores.test[clip] for clip in clips("fan")[1][1:]})
            for one, scores in MODELS["fan"].items()
        },
    }
    assert got["top3_mean"].members == judged(common, rest)["top3_mean"].members
    assert f"fan: 1 test clips rank no models, as they have no finite score by {name}" in (capsys.readouterr().err)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_held_out_loss_that_is_not_finite_chooses_no_model(
    value: float | None, place: int, capsys: pytest.CaptureFixture[str]
):
    held_out = {machine: {name: float(i) for i, name in enumerate(NAMES)} for machine in SKILLS}
    got = build_systems(
        default_config(), 2021, MODELS, JUDGED, {**held_out, "fan": {**held_out["fan"], NAMES[place]: value}}
    )
    finite = [name for name in NAMES if name != NAMES[place]]
    assert got["best_held_out"].members == {"fan": (finite[0],), "pump": ("a",)}
    assert got["top3_held_out"].members == {"fan": tuple(finite[:3]), "pump": ("a", "b", "c")}
    assert f"1 of 6 models of fan not considered, as their loss on held-out clips is not finite: {NAMES[place]}" in (
        capsys.readouterr().err
    )


def test_where_no_held_out_loss_is_finite_no_system_goes_by_it(capsys: pytest.CaptureFixture[str]):
    got = build_systems(default_config(), 2021, MODELS, JUDGED, {m: dict.fromkeys(NAMES) for m in SKILLS})
    assert not {"best_held_out", "top3_held_out"} & got.keys()
    assert "left out, no model of fan, pump has a finite held-out loss" in capsys.readouterr().err


def test_baselines_are_systems_of_their_own():
    baselines: Models = {machine: {"crude": scores(machine, 20, 99)} for machine in SKILLS}
    got = build_baselines(default_config(), 2021, baselines, JUDGED)
    assert list(got) == ["crude"]
    assert got["crude"].selection == "none"
    assert got["crude"].members == {"fan": ("crude",), "pump": ("crude",)}
    assert got["crude"].judgement.official == 1


@pytest.mark.parametrize("lacks", ["train", "test"])
def test_a_baseline_that_cannot_score_or_decide_is_left_out_with_a_line(lacks: str, capsys: pytest.CaptureFixture[str]):
    """It must not cost a fleet its evaluation."""
    whole = {machine: scores(machine, 20, 99) for machine in SKILLS}
    baselines: Models = {
        machine: {"good": of, "crude": of._replace(**{lacks: {}}) if machine == "pump" else of}
        for machine, of in whole.items()
    }
    assert list(build_baselines(default_config(), 2021, baselines, JUDGED)) == ["good"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crude: left out, pump")


def test_a_domain_of_few_training_clips_is_decided_by_a_threshold_of_its_own():
    config = default_config()
    config.evaluate.threshold_per = "section_domain"
    rng = np.random.default_rng(0)
    train = {
        Clip(Path(f"{d}_{i}.wav"), "fan", "00", "train", d, "normal"): float(scale * rng.gamma(9))
        for d, number, scale in (("source", 50, 1), ("target", 3, 5))
        for i in range(number)
    }
    asked = [
        Clip(Path(f"{d}_{label}_{i}.wav"), "fan", "00", "test", d, label)
        for d in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(200)
    ]
    test = {c: float((5 if c.domain == "target" else 1) * rng.gamma(9) * (1 + (c.label == "anomaly"))) for c in asked}
    by_domain = build_baselines(config, 2021, {"fan": {"one": ClipScores(train, test)}}, asked)["one"]
    whole = build_baselines(default_config(), 2021, {"fan": {"one": ClipScores(train, test)}}, asked)["one"]
    source, target = by_domain.judgement.cells
    assert source.false_alarms == pytest.approx(0.1, abs=0.07)
    assert target.false_alarms is not None
    assert target.false_alarms < 0.25
    assert target.found is not None
    assert target.found > 0.5
    assert whole.judgement.cells[1].false_alarms == pytest.approx(1, abs=0.1)


def test_all_seeds_are_one_ensemble_more():
    other: Models = {m: {n: scores(m, 1, 50 + i) for i, n in enumerate(NAMES)} for m in SKILLS}
    got = build_joint_systems(default_config(), 2021, {3: MODELS, 4: other}, JUDGED)
    assert list(got) == ["all_seeds_mean"]
    assert got["all_seeds_mean"].members["fan"] == tuple(f"{name}@{seed}" for seed in (3, 4) for name in NAMES)
    clip = JUDGED[0]
    expected = np.mean([of[clip.machine][name].test[clip] for of in (MODELS, other) for name in NAMES])
    assert got["all_seeds_mean"].clips[0].score == pytest.approx(expected)
    assert build_joint_systems(default_config(), 2021, {3: MODELS}, JUDGED) == {}
