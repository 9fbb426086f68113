"""Stored embeddings and scores: loaded as saved, and errors for damaged files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from asdjax.data.access import RecordedClips, Recording
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.fleet.embed import Embeddings
from asdjax.inference import stored_embeddings
from asdjax.inference.clip_scores import ClipScores

VARIANTS = ("mobilefacenet_512", "resnet50_512")
CLIPS = {
    "bank": [
        Clip(Path("/data/fan/train/a.wav"), "fan", "00", "train", "source", "normal", (("v", "1_2"), ("m", ""))),
        Clip(Path('fan/train/ü n,"1".wav'), "fan", "00", "train", "target", "normal"),
        Clip(Path("pump/train/c.wav"), "pump", "01", "train", None, "normal"),
    ],
    "test": [
        Clip(Path("fan/test/d.wav"), "fan", "00", "test", None, None, blind=True),
        Clip(Path("fan/test/e.wav"), "fan", "00", "test", "target", "anomaly", blind=True),
        Clip(Path("pump/test/f.wav"), "pump", "01", "test", "source", "anomaly", (("v", "3"),)),
        Clip(Path("pump/test/g.wav"), "pump", "09", "test", "source", "normal"),
    ],
}


def pieces_of(part: str) -> Embeddings:
    clip = np.repeat(np.arange(len(CLIPS[part])), 3)
    rng = np.random.default_rng(len(clip))
    return Embeddings({variant: rng.normal(size=(len(clip), 8)).astype(np.float32) for variant in VARIANTS}, clip)


PIECES = {part: pieces_of(part) for part in CLIPS}
SCORES = {
    variant: ClipScores(
        {CLIPS["bank"][0]: 0.1 + i, CLIPS["bank"][1]: 1 / 3},
        {clip: number / 7 + i for number, clip in enumerate(CLIPS["test"][:3])},
        (CLIPS["bank"][2],),
    )
    for i, variant in enumerate(VARIANTS)
}


def recorded(clips: Mapping[str, Sequence[Clip]]) -> dict[str, RecordedClips]:
    return {
        part: RecordedClips(some, [Recording(np.zeros(1, np.int16), f"of {clip.name}") for clip in some])
        for part, some in clips.items()
    }


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    stored_embeddings.save(tmp_path / stored_embeddings.FOLDER / "fan" / "phase2_full", recorded(CLIPS), PIECES, SCORES)
    return tmp_path


def load(evaluation: Path, *variants: str) -> stored_embeddings.Checkpointed:
    return stored_embeddings.load(evaluation / stored_embeddings.FOLDER / "fan" / "phase2_full", variants or VARIANTS)


def test_what_is_saved_is_loaded(evaluation: Path):
    loaded = load(evaluation)
    for part, got in zip(("bank", "test"), loaded, strict=True):
        assert got.clips == CLIPS[part]
        assert got.digests == [f"of {clip.name}" for clip in CLIPS[part]]
        assert [hash(clip) for clip in got.clips] == [hash(clip) for clip in CLIPS[part]]
        np.testing.assert_array_equal(got.pieces.clip, PIECES[part].clip)
        for variant in VARIANTS:
            np.testing.assert_array_equal(got.pieces.vectors[variant], PIECES[part].vectors[variant])
            assert got.pieces.vectors[variant].dtype == np.float32
    assert np.isnan(loaded.bank.scores[VARIANTS[0]]).tolist() == [False, False, True]
    assert np.isnan(loaded.test.scores[VARIANTS[0]]).tolist() == [False, False, False, True]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("machine", ["fan", "pump"])
def test_the_scores_are_those_that_were_saved(evaluation: Path, variant: str, machine: str):
    got, expected = load(evaluation).scores_of(variant, machine), SCORES[variant].select_machine(machine)
    assert got == expected  # to the last bit, clips and their order too
    assert list(got.train) == list(expected.train)
    assert list(got.test) == list(expected.test)
    assert got.unscored == (() if machine == "fan" else (CLIPS["bank"][2],))


def test_embeddings_are_mapped_not_read(evaluation: Path):
    for part in load(evaluation):
        for vectors in part.pieces.vectors.values():
            assert isinstance(vectors, np.memmap)
            assert not vectors.flags.writeable


def test_only_the_variants_asked_for_are_needed(evaluation: Path):
    for path in evaluation.rglob(f"{VARIANTS[1]}*"):
        path.unlink()
    assert list(load(evaluation, VARIANTS[0]).bank.pieces.vectors) == [VARIANTS[0]]


def test_no_test_clips_are_no_damage(tmp_path: Path):
    none = Embeddings({variant: np.zeros((0, 8), np.float32) for variant in VARIANTS}, np.zeros(0, np.int64))
    clips, pieces = {**CLIPS, "test": []}, {**PIECES, "test": none}
    stored_embeddings.save(tmp_path / stored_embeddings.FOLDER / "fan" / "phase2_full", recorded(clips), pieces, SCORES)
    loaded = load(tmp_path)
    assert loaded.test.clips == []
    assert loaded.scores_of(VARIANTS[0], "fan").test == {}


def truncated(length: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def edited(edit: Callable[[dict], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return write


def with_a_byte_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


ARRAY, SCORE = f"bank/{VARIANTS[0]}.npy", f"test/{VARIANTS[1]}_scores.npy"
DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no array": (ARRAY, Path.unlink),
    "no scores": (SCORE, Path.unlink),
    "no clip numbers": ("test/clip.npy", Path.unlink),
    "no list": ("clips.json", Path.unlink),
    "a flipped byte of an array": (ARRAY, with_a_byte_flipped),
    "a flipped byte of scores": (SCORE, with_a_byte_flipped),
    "no digest of the list": ("clips.json", edited(lambda content: content.pop("sha256"))),
    "another section": ("clips.json", edited(lambda content: content["bank"][0].update(section="07"))),
    "empty array": (ARRAY, truncated(0)),
    "empty scores": (SCORE, truncated(0)),
    "cut off array": (ARRAY, truncated(200)),
    "cut off header": (ARRAY, truncated(20)),
    "cut off scores": (SCORE, truncated(140)),
    "empty list": ("clips.json", truncated(0)),
    "cut off list": ("clips.json", truncated(100)),
    "other bytes": ("clips.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "another array": (ARRAY, lambda path: np.save(path, np.zeros((9, 8), np.float32))),
    "a clip less": ("clips.json", edited(lambda content: content["bank"].pop())),
    "a list of lists": ("clips.json", lambda path: path.write_text("[[], []]")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_names_the_folder_and_what_to_do(evaluation: Path, damage: str):
    name, spoil = DAMAGES[damage]
    checkpoint = evaluation / stored_embeddings.FOLDER / "fan" / "phase2_full"
    spoil(checkpoint / name)
    with pytest.raises(InputError) as error:
        load(evaluation)
    assert str(error.value).startswith(f"{checkpoint}: ")
    assert "run asdjax evaluate again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("run", "line"), [("pump", "phase2_full"), ("fan", "phase1")])
def test_a_checkpoint_that_was_not_evaluated_is_named(evaluation: Path, run: str, line: str):
    with pytest.raises(InputError, match=f"{run}/{line}: expected an evaluation's embeddings"):
        stored_embeddings.load(evaluation / stored_embeddings.FOLDER / run / line, VARIANTS)


def test_a_variant_that_was_not_evaluated_is_named(evaluation: Path):
    with pytest.raises(InputError, match="efficientnet_b0_512"):
        load(evaluation, "efficientnet_b0_512")
