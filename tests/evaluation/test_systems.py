"""Systems: the models that an ensemble averages, and the data that selected them."""

from pathlib import Path

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.model_scores import make_scored_clips
from asdjax.evaluation.systems import (
    ModelScores,
    System,
    build_baselines,
    build_combined,
    build_joint_systems,
    build_systems,
    choose_default,
)
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import combine
from asdjax.inference.ensembles import average

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
    """Draw scores; anomalies score `skill` standard deviations higher."""
    rng = np.random.default_rng(seed)
    train, test = clips(machine, labelled)
    lifted = {one: float(10 + rng.normal() + skill * ("anomaly" in one.name)) for one in test}
    return ClipScores({one: float(10 + rng.normal()) for one in train}, lifted)


SKILLS = {"fan": (0, 1, 2, 4, 6, 9), "pump": (9, 6, 4, 2, 1, 0)}
MODELS: ModelScores = {
    machine: {name: scores(machine, skill, 7 * i) for i, (name, skill) in enumerate(zip(NAMES, skills, strict=True))}
    for machine, skills in SKILLS.items()
}
TEST_CLIPS = [clip for machine in SKILLS for clip in clips(machine)[1]]


def evaluated(
    models: ModelScores = MODELS,
    test_clips: list[Clip] = TEST_CLIPS,
    held_out: dict[str, dict[str, float]] | None = None,
) -> dict[str, System]:
    return build_systems(default_config(), 2021, models, test_clips, held_out or {})


def test_models_come_first_then_the_four_submissions():
    got = evaluated()
    assert list(got) == [*NAMES, "best_single", "top3_mean", "top5_mean", "all_mean"]
    labelled = {name for name, system in got.items() if system.selection == "labelled test"}
    assert labelled == {"best_single", "top3_mean", "top5_mean"}
    assert {system.selection for name, system in got.items() if name not in labelled} == {"none"}


def test_a_model_that_a_machine_type_lacks_is_no_single_system_but_enters_the_ensembles_of_the_others():
    models: ModelScores = {"fan": MODELS["fan"], "pump": {name: MODELS["pump"][name] for name in ("a", "b")}}
    got = evaluated(models)
    assert list(got) == ["a", "b", "best_single", "top3_mean", "top5_mean", "all_mean"]
    assert got["all_mean"].members == {"fan": NAMES, "pump": ("a", "b")}


def test_each_machine_type_ranks_its_own_models_by_its_official_score():
    got = evaluated()
    for machine in SKILLS:
        official = {
            name: compute_metrics(
                2021, make_scored_clips(MODELS[machine][name], clips(machine)[1], [None] * 16)
            ).official
            for name in NAMES
        }
        ranked = sorted(NAMES, key=lambda name: -(official[name] or 0))
        for name, number in {"best_single": 1, "top3_mean": 3, "top5_mean": 5}.items():
            assert got[name].members[machine] == tuple(ranked[:number])
        assert got["all_mean"].members[machine] == NAMES
    assert got["best_single"].members["fan"] != got["best_single"].members["pump"]


def test_an_ensemble_is_the_mean_and_decides_strictly_above_its_threshold():
    got = evaluated()["all_mean"]
    by_name = {(clip.machine, clip.name): clip for clip in got.clips}
    assert len(by_name) == len(TEST_CLIPS)
    for clip in TEST_CLIPS:
        expected = np.mean([MODELS[clip.machine][name].test[clip] for name in NAMES])
        scored = by_name[clip.machine, clip.name]
        assert scored.score == pytest.approx(expected)
        assert scored.decision == (scored.score > got.thresholds[clip.machine, None, None].value)


def test_unlabelled_clips_are_judged_without_selection(capsys: pytest.CaptureFixture[str]):
    models: ModelScores = {"fan": {name: scores("fan", 1, i, labelled=False) for i, name in enumerate("ab")}}
    got = evaluated(models, clips("fan", labelled=False)[1])
    assert list(got) == ["a", "b", "all_mean"]
    assert got["all_mean"].metrics.official is None
    assert all(clip.decision is not None for clip in got["all_mean"].clips)
    assert "fan has no labelled test clips to rank models by" in capsys.readouterr().err


def test_labelled_clips_rank_models_for_unlabelled_ones():
    """For the challenge's evaluation set, models are selected on the development clips."""
    unlabelled = [
        Clip(Path(f"new_{i}.wav"), machine, "00", "test", "source", None) for machine in SKILLS for i in range(3)
    ]
    models: ModelScores = {
        machine: {
            name: ClipScores(of.train, {**of.test, **{c: 10.0 for c in unlabelled if c.machine == machine}})
            for name, of in by_model.items()
        }
        for machine, by_model in MODELS.items()
    }
    got = evaluated(models, unlabelled)
    assert got["top3_mean"].members == evaluated()["top3_mean"].members
    assert len(got["top3_mean"].clips) == len(unlabelled)


def test_a_machine_type_without_a_threshold_is_named():
    with pytest.raises(InputError, match="fan: expected training clips with a score"):
        evaluated({"fan": {"a": ClipScores({}, MODELS["fan"]["a"].test)}}, clips("fan")[1])


def test_a_threshold_that_is_not_the_gamma_rule_s_is_said(capsys: pytest.CaptureFixture[str]):
    assert evaluated()["all_mean"].thresholds["fan", None, None].rule == "gamma"
    assert "threshold of" not in capsys.readouterr().err
    twice = next(iter(MODELS["fan"]["a"].train))
    models: ModelScores = {
        **MODELS,
        "fan": {name: of._replace(train={**of.train, twice: 0.0}) for name, of in MODELS["fan"].items()},
    }
    assert evaluated(models)["all_mean"].thresholds["fan", None, None].rule == "empirical"
    assert "threshold of fan: a percentile of the training scores, because" in capsys.readouterr().err


def test_held_out_clips_rank_models_without_any_label():
    """The ranking by loss is the reverse of the ranking by labels here, and must decide."""
    held_out = {machine: dict(zip(NAMES, skill, strict=True)) for machine, skill in SKILLS.items()}
    got = evaluated(held_out=held_out)
    assert list(got)[6:] == ["best_single", "top3_mean", "top5_mean", "best_held_out", "top3_held_out", "all_mean"]
    assert got["top3_held_out"].selection == got["best_held_out"].selection == "held-out normals"
    assert got["top3_held_out"].members == {"fan": NAMES[:3], "pump": NAMES[:2:-1]}
    assert got["best_held_out"].members == {"fan": NAMES[:1], "pump": NAMES[-1:]}


def test_what_held_out_clips_do_not_tell_is_left_out_and_said(capsys: pytest.CaptureFixture[str]):
    losses = {"fan": dict.fromkeys(NAMES, 1.0), "pump": {"a": 1.0}}
    assert "best_held_out" not in evaluated(held_out=losses)
    assert "best_held_out, top3_held_out: left out, pump has no loss on held-out clips" in capsys.readouterr().err
    assert "best_held_out" not in evaluated()
    assert "held_out" not in capsys.readouterr().err


def without(models: ModelScores, name: str, *, train: int = 0, test: int = 0) -> ModelScores:
    """Remove the first `train` and `test` scores of one model of the fan."""
    (train_clips, test_clips), scores = clips("fan"), models["fan"][name]
    left = ClipScores(
        {clip: scores.train[clip] for clip in train_clips[train:]},
        {clip: scores.test[clip] for clip in test_clips[test:]},
        tuple(train_clips[:train]),
    )
    return {**models, "fan": {**models["fan"], name: left}}


@pytest.mark.parametrize("name", ["a", "c", "f"])
@pytest.mark.parametrize("how", ["all", "seeds"])
def test_a_clip_to_judge_without_a_finite_score_is_one_error_whichever_model_lacks_it(name: str, how: str):
    lacking = without(MODELS, name, test=2)
    builders = {
        "all": lambda: evaluated(lacking),
        "seeds": lambda: build_joint_systems(default_config(), 2021, {3: MODELS, 4: lacking}, {}, TEST_CLIPS),
    }
    suffix = "@4" if how == "seeds" else ""
    message = rf"source_normal_0\.wav: expected a score, got none that is finite by {name}{suffix} \(2 clips in all\)"
    with pytest.raises(InputError, match=message):
        builders[how]()


@pytest.mark.parametrize("name", ["a", "c", "f"])
def test_training_clips_that_one_model_lacks_enter_no_threshold_and_are_counted(
    name: str, capsys: pytest.CaptureFixture[str]
):
    got = evaluated(without(MODELS, name, train=2))
    assert f"fan: 2 training clips enter no threshold of an ensemble, because they have no finite score by {name}" in (
        capsys.readouterr().err
    )
    assert got["all_mean"].unscored == {"fan": 2, "pump": 0}
    assert got["all_mean"].thresholds["fan", None, None].clips == 4
    assert {other for other in NAMES if got[other].unscored["fan"]} == {name}


@pytest.mark.parametrize("name", ["a", "f"])
def test_models_are_ranked_on_the_clips_that_all_of_them_have(name: str, capsys: pytest.CaptureFixture[str]):
    """For the split eval, clips that are not evaluated rank the models."""
    lacking = without(MODELS, name, test=1)
    rest = [clip for clip in TEST_CLIPS if clip not in clips("fan")[1][:1]]
    got = evaluated(lacking, rest)
    common: ModelScores = {
        **MODELS,
        "fan": {
            one: scores._replace(test={clip: scores.test[clip] for clip in clips("fan")[1][1:]})
            for one, scores in MODELS["fan"].items()
        },
    }
    assert got["top3_mean"].members == evaluated(common, rest)["top3_mean"].members
    assert f"fan: 1 test clips rank no models, because they have no finite score by {name}" in (capsys.readouterr().err)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_held_out_loss_that_is_not_finite_chooses_no_model(
    value: float | None, place: int, capsys: pytest.CaptureFixture[str]
):
    held_out = {machine: {name: float(i) for i, name in enumerate(NAMES)} for machine in SKILLS}
    got = build_systems(
        default_config(), 2021, MODELS, TEST_CLIPS, {**held_out, "fan": {**held_out["fan"], NAMES[place]: value}}
    )
    finite = [name for name in NAMES if name != NAMES[place]]
    assert got["best_held_out"].members == {"fan": (finite[0],), "pump": ("a",)}
    assert got["top3_held_out"].members == {"fan": tuple(finite[:3]), "pump": ("a", "b", "c")}
    assert (
        f"1 of 6 models of fan not considered, because their loss on held-out clips is not finite: {NAMES[place]}"
        in (capsys.readouterr().err)
    )


def test_where_no_held_out_loss_is_finite_no_system_goes_by_it(capsys: pytest.CaptureFixture[str]):
    got = build_systems(default_config(), 2021, MODELS, TEST_CLIPS, {m: dict.fromkeys(NAMES) for m in SKILLS})
    assert not {"best_held_out", "top3_held_out"} & got.keys()
    assert "left out, no model of fan, pump has a finite held-out loss" in capsys.readouterr().err


def test_baselines_are_systems_of_their_own():
    baselines: ModelScores = {machine: {"crude": scores(machine, 20, 99)} for machine in SKILLS}
    got = build_baselines(default_config(), 2021, baselines, TEST_CLIPS)
    assert list(got) == ["crude"]
    assert got["crude"].selection == "none"
    assert got["crude"].members == {"fan": (), "pump": ()}
    assert got["crude"].baselines == ("crude",)
    assert got["crude"].metrics.official == 1


@pytest.mark.parametrize("lacks", ["train", "test"])
def test_a_baseline_that_cannot_score_or_decide_is_left_out_with_a_line(lacks: str, capsys: pytest.CaptureFixture[str]):
    """A failing baseline must not prevent the evaluation of a fleet."""
    whole = {machine: scores(machine, 20, 99) for machine in SKILLS}
    baselines: ModelScores = {
        machine: {"good": of, "crude": of._replace(**{lacks: {}}) if machine == "pump" else of}
        for machine, of in whole.items()
    }
    assert list(build_baselines(default_config(), 2021, baselines, TEST_CLIPS)) == ["good"]
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
    test_clips = [
        Clip(Path(f"{d}_{label}_{i}.wav"), "fan", "00", "test", d, label)
        for d in ("source", "target")
        for label in ("normal", "anomaly")
        for i in range(200)
    ]
    test = {
        c: float((5 if c.domain == "target" else 1) * rng.gamma(9) * (1 + (c.label == "anomaly"))) for c in test_clips
    }
    by_domain = build_baselines(config, 2021, {"fan": {"one": ClipScores(train, test)}}, test_clips)["one"]
    whole = build_baselines(default_config(), 2021, {"fan": {"one": ClipScores(train, test)}}, test_clips)["one"]
    source, target = by_domain.metrics.cells
    assert source.false_alarms == pytest.approx(0.1, abs=0.07)
    assert target.false_alarms is not None
    assert target.false_alarms < 0.25
    assert target.found is not None
    assert target.found > 0.5
    assert whole.metrics.cells[1].false_alarms == pytest.approx(1, abs=0.1)


def test_all_seeds_are_two_systems_more():
    other: ModelScores = {m: {n: scores(m, 1, 50 + i) for i, n in enumerate(NAMES)} for m in SKILLS}
    baselines: ModelScores = {machine: {"simple": scores(machine, 3, 99)} for machine in SKILLS}
    got = build_joint_systems(default_config(), 2021, {3: MODELS, 4: other}, baselines, TEST_CLIPS)
    assert list(got) == ["all_seeds_mean", "combined_seeds"]
    for system in got.values():
        assert system.members["fan"] == tuple(f"{name}@{seed}" for seed in (3, 4) for name in NAMES)
    clip = TEST_CLIPS[0]
    models = [of[clip.machine][name] for of in (MODELS, other) for name in NAMES]
    assert got["all_seeds_mean"].clips[0].score == pytest.approx(np.mean([model.test[clip] for model in models]))
    combined = combine([average(models, "score"), baselines[clip.machine]["simple"]])
    assert got["combined_seeds"].clips[0].score == pytest.approx(combined.test[clip])
    assert build_joint_systems(default_config(), 2021, {3: MODELS}, baselines, TEST_CLIPS) == {}


@pytest.mark.parametrize(
    ("wanted", "names", "expected"),
    [
        ("all_mean", {"all_mean", "combined"}, "all_mean"),
        ("combined", {"all_mean", "combined"}, "combined"),
        ("combined", {"all_mean", "combined", "all_seeds_mean", "combined_seeds"}, "combined_seeds"),
        ("combined", {"all_mean", "all_seeds_mean"}, "all_seeds_mean"),
        ("combined", {"all_mean"}, "all_mean"),
    ],
)
def test_the_default_system_is_the_configured_one_unless_it_is_left_out(
    wanted: str, names: set[str], expected: str, capsys: pytest.CaptureFixture[str]
):
    config = default_config()
    config.evaluate.system = wanted
    assert choose_default(config, names) == expected
    said = "combined is left out; score, export and report use all_mean" in capsys.readouterr().err
    assert said == (wanted == "combined" and "combined" not in names)


def test_the_combined_system_averages_all_models_and_the_baselines_in_scales_of_their_training_scores():
    baselines: ModelScores = {machine: {"simple": scores(machine, 3, 99)} for machine in SKILLS}
    got = build_combined(default_config(), 2021, MODELS, baselines, TEST_CLIPS)["combined"]
    assert got.selection == "none"
    assert got.members == dict.fromkeys(SKILLS, NAMES)
    assert got.baselines == ("simple",)
    expected = {
        machine: combine([average([*MODELS[machine].values()], "score"), baselines[machine]["simple"]])
        for machine in SKILLS
    }
    assert [clip.score for clip in got.clips] == [expected[clip.machine].test[clip] for clip in TEST_CLIPS]


def test_without_a_baseline_s_score_of_a_clip_there_is_no_combined_system(capsys: pytest.CaptureFixture[str]):
    baselines: ModelScores = {machine: {"simple": scores(machine, 3, 99)} for machine in SKILLS}
    del baselines["fan"]["simple"].test[TEST_CLIPS[0]]
    assert build_combined(default_config(), 2021, MODELS, baselines, TEST_CLIPS) == {}
    assert "combined: left out" in capsys.readouterr().err
