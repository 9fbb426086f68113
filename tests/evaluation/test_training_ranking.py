"""The ranking of training clips: faults come first, in any section and domain."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip, Domain
from asdjax.evaluation import clip_table, summary, training_ranking

CONFIG = default_config()


def make_clips(section: str, domain: Domain, number: int) -> list[Clip]:
    return [
        Clip(Path(f"fan/{section}_{domain}_{i:02}.wav"), "fan", section, "train", domain, "normal")
        for i in range(number)
    ]


def test_outliers_of_every_section_come_first_whatever_its_scale():
    rng = np.random.default_rng(0)
    scores = {}
    for section, scale in (("00", 1.0), ("01", 100.0)):
        scores |= {clip: scale * (5 + rng.normal()) for clip in make_clips(section, "source", 40)}
        # clips of a domain with few clips score higher, and are no outliers for that
        scores |= {clip: scale * (12 + rng.normal()) for clip in make_clips(section, "target", 3)}
    outliers = make_clips("00", "source", 40)[7], make_clips("01", "source", 40)[9]
    scores |= {outliers[0]: 12.0, outliers[1]: 1300.0}
    ranked = training_ranking.rank(CONFIG, scores)
    assert {one.clip for one in ranked[:2]} == set(outliers)
    assert [one.excess for one in ranked] == sorted((one.excess for one in ranked), reverse=True)
    assert {one.clip: one.score for one in ranked} == scores
    unit = np.subtract(*np.percentile([score for clip, score in scores.items() if clip.section == "00"], [75, 25]))
    same = [one for one in ranked if (one.clip.section, one.clip.domain) == ("00", "source")]
    np.testing.assert_allclose(np.diff([one.score for one in same]) / unit, np.diff([one.excess for one in same]))


def test_equal_scores_have_a_rank_too():
    ranked = training_ranking.rank(CONFIG, dict.fromkeys(make_clips("00", "source", 5), 1.0))
    assert [one.excess for one in ranked] == [0.0] * 5
    rounded = {clip: 1.0 + 1e-9 * i for i, clip in enumerate(make_clips("00", "source", 30))}
    assert all(abs(one.excess) < 1e-3 for one in training_ranking.rank(CONFIG, rounded))


def test_twenty_clips_of_each_machine_type_are_listed():
    clips = [replace(clip, machine=machine) for machine in ("pump", "fan") for clip in make_clips("00", "source", 25)]
    ranked = training_ranking.rank(CONFIG, {clip: float(i) for i, clip in enumerate(clips)})
    listed = training_ranking.to_json(ranked)
    assert {machine: len(of_machine) for machine, of_machine in listed.items()} == {"fan": 20, "pump": 20}
    assert [clip["score"] for clip in listed["pump"]] == list(range(24, 4, -1))
    strangest = training_ranking.list_strangest({"training_clips": listed}, 2)
    assert [(machine, clip["score"]) for machine, clip in strangest] == [("fan", 49.0), ("fan", 48.0)]


def test_an_evaluation_lists_training_clips_and_shows_those_above_their_thresholds(trained_once: Path):
    folder = trained_once / "evaluation" / "dev"
    results = json.loads((folder / "results.json").read_text())
    (listed,) = results["training_clips"].values()
    rows = clip_table.read(folder / "clips" / "all_mean.csv", results["clips"]["all_mean"])
    training = {row.clip.name: row.clip.score for row in rows if row.split == "train"}
    assert len(listed) == len(training)
    assert all(training[Path(clip["path"]).name] == clip["score"] for clip in listed)
    above = [Path(clip["path"]).name for clip in listed if clip["excess"] > 0]
    assert above
    text = summary.as_text(results, 200)
    assert all(f"fan train/{name}" in text for name in above[:3])
    nothing = {**results, "training_clips": {"fan": [{**clip, "excess": -1.0} for clip in listed]}}
    assert "strangest" not in summary.as_text(nothing, 200) + summary.as_markdown(nothing)
