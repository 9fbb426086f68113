"""Access to the stores of several machine types."""

import shutil
from pathlib import Path

import pytest

from asdjax.config import loading
from asdjax.data import access


def test_clips_are_looked_up_in_the_stores_of_their_machine_types_only(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for machine in ("fan", "pump"):
        shutil.copytree(corpus / "fan", tmp_path / "data" / machine)
    config = loading.load("dcase2021", {"data.root": str(tmp_path / "data")})
    clips = access.open_corpus(config)
    stores = access.open_stores(config, tmp_path, clips, ("fan", "pump"))
    titles, track = [], access.track
    monkeypatch.setattr(
        access,
        "track",
        lambda jobs, title, *args, **options: titles.append(title) or track(jobs, title, *args, **options),
    )
    pumps = clips.select(machine="pump", split="train")
    for clip, recording in zip(pumps, access.read_recordings(stores, pumps), strict=True):
        assert recording.samples.tobytes() == clip.path.read_bytes()[44:]
    assert len(access.read_recordings(stores, list(clips))) == len(clips)
    access.verify_recordings(stores, pumps)
    access.verify_recordings(stores, list(clips))
    assert titles == ["verify pump", "verify fan, pump"]
