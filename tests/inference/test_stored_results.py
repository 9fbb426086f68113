"""The format of results.json that `evaluate` writes and `score`, `report` and `export` read."""

import json
from pathlib import Path

import pytest

from asdjax.errors import InputError
from asdjax.inference import stored_results
from asdjax.inference.thresholds import Group, Threshold
from asdjax.runtime.files import add_checksum


def test_thresholds_survive_json():
    thresholds: dict[Group, Threshold] = {
        ("fan", None, None): Threshold(0.1 + 0.2, "gamma", 7, 1 / 3),
        ("pump", "00", None): Threshold(-1e-300, "empirical", 1, 0.0),
        ("pump", "00", "target"): Threshold(2.5, "predicted", 3, 1.0),
    }
    entry = json.loads(json.dumps({"thresholds": stored_results.encode_thresholds(thresholds)}))
    assert stored_results.decode_thresholds(entry) == thresholds


def test_a_system_of_one_seed_is_its_own_entry():
    entry = {"members": {"fan": ["a"]}, "thresholds": []}
    assert stored_results.select_seed(entry, None) is entry
    assert stored_results.select_seed({"by_seed": {"3": entry}}, 3) is entry


@pytest.mark.parametrize("missing", ["clips", "config", "evaluated"])
def test_an_evaluation_of_an_earlier_version_is_refused(missing: str, tmp_path: Path):
    content = {key: {} for key in ("clips", "config", "evaluated", "systems") if key != missing}
    (tmp_path / stored_results.FILE).write_text(json.dumps(add_checksum(content)))
    with pytest.raises(InputError, match="of an earlier version of asdjax; run asdjax evaluate again"):
        stored_results.read_results(tmp_path)
