"""Metric log: intact rows, cut back to the restored step, with numbers that JSON has."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from asdjax.fleet import metric_log
from asdjax.fleet.metric_log import MetricLog


def write(folder: Path, *steps: tuple[str, int], loss: float = 1.5) -> None:
    with MetricLog(folder) as out:
        for number, (phase, step) in enumerate(steps):
            if number == 0 or steps[number - 1][0] != phase:
                out.begin(phase, 0)
            out.metrics(phase, step, {"a": loss}, accuracy={"a": 0.5}, learning_rate=0.1)


def rows(folder: Path) -> list[dict]:
    """The rows without starts, and without time and place, which every row, or every start, has."""
    found = metric_log.read(folder / "metrics.jsonl")
    for row in found:
        assert row.pop("time") > 0
        if row.get("event") in ("started", "resumed"):
            assert (bool(row.pop("host")), row.pop("device"), row.pop("job")) == (True, "cpu", "")
    return [row for row in found if row.get("event") != "started"]


def test_a_row(tmp_path: Path):
    write(tmp_path, ("phase1", 7))
    assert rows(tmp_path) == [
        {
            "phase": "phase1",
            "step": 7,
            "loss": {"a": 1.5},
            "loss_hex": {"a": "0x1.8000000000000p+0"},
            "accuracy": {"a": 0.5},
            "learning_rate": 0.1,
        }
    ]
    assert list((tmp_path / "tensorboard" / "phase1").glob("events*"))


def test_nothing_is_touched_before_a_phase_begins(tmp_path: Path):
    with MetricLog(tmp_path / "fan"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_tensorboard_shows_after_a_resume_is_what_the_log_says(tmp_path: Path):
    write(tmp_path, ("phase1", 1), ("phase1", 2), ("phase1", 3))
    with MetricLog(tmp_path) as out:
        out.begin("phase1", 1)
        out.metrics("phase1", 2, {"a": 9.0}, accuracy={"a": 1.0}, learning_rate=0.1)
    purged = [
        event.step
        for file in sorted((tmp_path / "tensorboard" / "phase1").glob("events*"))
        for event in events(file)
        if event.session_log.status == SessionLog.START
    ]
    assert purged[-1] == 2


def events(file: Path) -> list[Event]:
    """Read the events of a TensorBoard file; a record is a length, its checksum, an event and its checksum."""
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path):
    with MetricLog(tmp_path) as out:
        out.begin("phase1", 0)
        out.metrics("phase1", 1, {"a": 1.0}, accuracy={"a": 0.0})
        assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_null(tmp_path: Path, loss: float):
    write(tmp_path, ("phase1", 1), loss=loss)
    row = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    parsed = json.loads(row, parse_constant=lambda text: pytest.fail(text))
    assert parsed["loss"] == {"a": None}
    assert parsed["loss_hex"] == {"a": loss.hex()}


def test_a_fresh_phase_logs_its_start(tmp_path: Path):
    with MetricLog(tmp_path) as out:
        out.begin("phase1", 0)
    (row,) = metric_log.read(tmp_path / "metrics.jsonl")
    assert (row["event"], row["phase"], row["step"]) == ("started", "phase1", 0)


def test_resuming_drops_later_rows_of_its_phase_only_and_says_so(tmp_path: Path):
    write(tmp_path, ("phase1", 1), ("phase1", 2), ("phase2_full", 1), ("phase2_full", 2), ("phase2_full", 3))
    with MetricLog(tmp_path) as out:
        out.begin("phase2_full", 1)
        out.metrics("phase2_full", 2, {"a": 9.0}, accuracy={"a": 1.0})
    kept = [(row["phase"], row["step"], row.get("event")) for row in rows(tmp_path)]
    assert kept == [
        ("phase1", 1, None),
        ("phase1", 2, None),
        ("phase2_full", 1, None),
        ("phase2_full", 1, "resumed"),
        ("phase2_full", 2, None),
    ]


@pytest.mark.parametrize("torn", ["", '{"phase": "ph'])
def test_a_failure_is_a_row_of_its_own_after_a_kill_too(torn: str, tmp_path: Path):
    write(tmp_path, ("phase1", 1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    metric_log.append_failure(tmp_path, "bad clip", 2)
    failed = {"event": "failed", "phase": "phase1", "step": 1, "why": "bad clip", "code": 2}
    assert rows(tmp_path)[1:] == [failed]
    assert metric_log.read_tail(tmp_path / "metrics.jsonl") == metric_log.read(tmp_path / "metrics.jsonl")


def test_rows_before_a_first_checkpoint_are_dropped(tmp_path: Path):
    write(tmp_path, ("phase1", 1))
    with MetricLog(tmp_path) as out:
        out.begin("phase1", 0)
    assert rows(tmp_path) == [{"event": "resumed", "phase": "phase1", "step": 0}]


def test_a_torn_last_line_is_dropped(tmp_path: Path):
    write(tmp_path, ("phase1", 1), ("phase1", 2))
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text()[:-5])
    assert [row["step"] for row in rows(tmp_path)] == [1]
    with MetricLog(tmp_path) as out:
        out.begin("phase1", 1)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 1, 1]
    assert metric_log.read(tmp_path / "none.jsonl") == []
