"""`asdjax export`: a system as functions that need only JAX and flatbuffers, with its weights, banks and thresholds.

For each machine type a folder with `function.jaxexport`, the serialized function of clips of one length in any number,
for CPU, CUDA and TPU; `weights.npz`; and for each section `section_<section>.npz`, its banks, and
`section_<section>.json`, its threshold. Where banks or thresholds go by domains, each domain has files of its own,
`section_<section>_source` and `_target`; where banks do not, those of the section are for clips of unknown domain.
`example.py` beside them loads and calls one.

Letters: b clips, s samples, p pieces of a clip, n bank pieces, d embedding.
"""

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from asdjax import features
from asdjax.config.fields import Config
from asdjax.errors import InputError
from asdjax.evaluation import results
from asdjax.features import Spectrogram
from asdjax.fleet import embed, fleet_model
from asdjax.fleet.fleet_model import Model
from asdjax.inference.backends import Gaussian, Neighbours
from asdjax.inference.clip_scores import POOLINGS
from asdjax.inference.detector import Detector, Part, open_system
from asdjax.inference.ensembles import Linear
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.runtime import hardware
from asdjax.runtime.files import LOCK, locked_folder
from asdjax.runtime.progress import track

PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION, WEIGHTS, EXAMPLE = "function.jaxexport", "weights.npz", "example.py"
PARTIAL = "export.partial"

Arrays = dict[str, Any]
"""What the function takes besides samples: weights and banks, by name."""


def export(
    workdir: Path,
    out: Path,
    *,
    split: str | None,
    system: str | None,
    machines: Sequence[str],
    seconds: float,
) -> list[Path]:
    """Write a system of an evaluation into a new folder, for clips of so many seconds; returns the functions' files.

    `split` as in `open_evaluation`, `system` as in `open_system`. Raises InputError for what is not there or cannot be
    exported or written, and leaves nothing then; what a kill leaves half made is no obstacle to the next export.
    """
    evaluation = open_evaluation(workdir, split)
    samples = _samples(evaluation.config, seconds)
    known = evaluation.results["models"]
    chosen = machines or tuple(known)
    if unknown := sorted(set(chosen) - known.keys()):
        raise InputError(f"--machines {unknown[0]}: expected any of {', '.join(known)}")
    with locked_folder(Path(os.path.abspath(out)), wait=False) as folder, _made_in(folder, out) as partial:
        files = []
        for machine in track(chosen, "export", len(chosen), "machine type"):
            opened = open_system(evaluation, system, machine)
            names = [_named(*place) for place in opened.places]
            if twice := [name for name in names if names.count(name) > 1]:
                raise InputError(
                    f"{machine}: expected sections and domains with file names of their own, got {twice[0]} twice; "
                    "rename that section"
                )
            detectors = {name: opened.detector(*place) for name, place in zip(names, opened.places, strict=True)}
            files.append(_write(partial / _file_name(machine), detectors, samples).relative_to(partial))
        results.require_same(evaluation.folder, evaluation.results)
        shutil.copy(Path(__file__).with_name("export_example.py"), partial / EXAMPLE)
    return [out / file for file in files]


@contextlib.contextmanager
def _made_in(folder: Path, out: Path) -> Iterator[Path]:
    """A folder within a locked one, for what moves up into that when all of it is there.

    Where one is there already, a kill has ended its export, and what has moved up goes with it. Raises InputError,
    `out` being its name, where other files are there.
    """
    partial = folder / PARTIAL
    if partial.is_dir():
        (folder / EXAMPLE).unlink(missing_ok=True)
        for made in folder.glob(f"*/{FUNCTION}"):
            shutil.rmtree(made.parent)
    if any(path not in (partial, folder / LOCK) for path in folder.iterdir()):
        raise InputError(f"--out {out}: expected a new or empty folder, got one with files; choose another")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        for made in partial.iterdir():
            made.rename(folder / made.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _samples(config: Config, seconds: float) -> int:
    spectrogram = features.make_spectrogram(config)
    samples = round(seconds * spectrogram.sample_rate_hz) if math.isfinite(seconds) else 0
    if samples < spectrogram.least_samples:
        least = spectrogram.least_samples / spectrogram.sample_rate_hz
        raise InputError(f"--seconds {seconds}: expected {least:.3f} or more, a piece's length")
    return samples


def _file_name(name: str) -> str:
    if name.casefold() in ("", "..", EXAMPLE, PARTIAL) or Path(name).name != name:
        raise InputError(f"{name!r}: expected a machine type or section that can name a file; rename it and train anew")
    return name


def _named(section: str, domain: str | None) -> str:
    """What the files of a section, or of one of its domains, are called; never as anything else in the folder."""
    return _file_name("_".join(filter(None, ("section", section, domain))))


def _write(folder: Path, detectors: Mapping[str, Detector], samples: int) -> Path:
    """Write a machine type's folder, a detector's files by their name; returns the function's file."""
    detector = next(iter(detectors.values()))
    if not all(isinstance(member.scale, Linear) for part in detector.parts for member in part.members):
        raise InputError(
            "config.evaluate.ensemble: averages of ranks cannot be exported; evaluate with score or zscore, or give "
            "--system a single model"
        )
    weights = {name: np.asarray(leaf) for part in detector.parts for name, leaf in _weights(part).items()}
    longest = max(_longest(detector) for detector in detectors.values())
    banks = {name: _banks(detector, longest) for name, detector in detectors.items()}
    shapes = {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in {**weights, **next(iter(banks.values()))}.items()
    }
    (b,) = jax_export.symbolic_shape("b")
    function = jax.jit(lambda arrays, clips: scored(detector, arrays, clips))
    clips = jax.ShapeDtypeStruct((b, samples), jnp.int16)
    with hardware.compiling_for("cpu"):  # what has no form of its own for each platform: in one that suits all
        exported = jax_export.export(function, platforms=PLATFORMS)(shapes, clips)
    folder.mkdir()
    (folder / FUNCTION).write_bytes(exported.serialize())
    _save(folder / WEIGHTS, weights)
    for name, detector in detectors.items():
        _save(folder / f"{name}.npz", banks[name])
        (folder / f"{name}.json").write_text(json.dumps(_about(detector, samples), indent=1) + "\n")
    return folder / FUNCTION


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def _about(detector: Detector, samples: int) -> dict[str, Any]:
    spectrogram = detector.spectrogram
    starts = embed.piece_starts(samples, spectrogram, detector.stride_frames)
    return {
        "sample_rate_hz": spectrogram.sample_rate_hz,
        "samples": samples,
        "piece_begins_s": [frame * spectrogram.hop_samples / spectrogram.sample_rate_hz for frame in starts],
        "threshold": detector.threshold.value,
        "decision": "anomaly where score > threshold",
    }


def scored(detector: Detector, arrays: Arrays, clips: jax.Array) -> dict[str, Any]:
    """What is exported: clips int16 (b, s) -> `score` (b,), `pieces` (b, p) and, by model, `embeddings` (b, p, d)."""
    starts = embed.piece_starts(clips.shape[1], detector.spectrogram, detector.stride_frames)
    crops = _crops(clips, starts, detector.spectrogram)
    embedded, scores, pieces = {}, [], []
    for part in detector.parts:
        vectors_of = embed.embed(part.spec, _model(part, arrays), crops)
        for member in part.members:
            vectors = vectors_of[member.variant]
            name = f"{part.name}/{member.variant}"
            distances = [
                _distances(scorer, arrays, f"bank/{name}/{i}", vectors) for i, scorer in enumerate(member.scorer.of)
            ]
            of_clips = functools.reduce(jnp.fmin, distances).reshape(-1, len(starts))
            embedded[name] = vectors.reshape(-1, len(starts), vectors.shape[-1])
            scale = cast(Linear, member.scale)
            scores.append(scale(POOLINGS[detector.scoring.pooling](of_clips, detector.scoring.top_pieces)))
            pieces.append(scale(of_clips))
    return {"score": sum(scores) / len(scores), "pieces": sum(pieces) / len(pieces), "embeddings": embedded}


def _crops(clips: jax.Array, starts: Sequence[int], spectrogram: Spectrogram) -> jax.Array:
    """The samples under each piece: (b, s) -> (b * p, piece samples), zeros beyond the clips' ends."""
    length, margin = spectrogram.piece_samples, spectrogram.n_fft // 2
    padded = jnp.pad(clips, ((0, 0), (margin, length)))
    begins = [features.first_sample(frame, spectrogram) + margin for frame in starts]
    return jnp.stack([padded[:, begin : begin + length] for begin in begins], axis=1).reshape(-1, length)


def _weights(part: Part) -> Arrays:
    """A checkpoint's arrays that an embedding needs, by name."""
    return {
        f"{part.name}/{kind}/{variant}/{path}": leaf
        for kind, of_kind in part.model._asdict().items()
        for variant in part.spec.variants
        for path, leaf in of_kind[variant].items()
        if path not in fleet_model.HEAD_PATHS
    }


def _model(part: Part, arrays: Arrays) -> Model:
    """The model again, of the function's arguments."""
    return Model(
        *(
            {
                variant: {
                    path: arrays[f"{part.name}/{kind}/{variant}/{path}"]
                    for path in of_kind[variant]
                    if path not in fleet_model.HEAD_PATHS
                }
                for variant in part.spec.variants
            }
            for kind, of_kind in part.model._asdict().items()
        )
    )


def _scorers(detector: Detector) -> Iterator[tuple[str, Neighbours | Gaussian]]:
    for part in detector.parts:
        for member in part.members:
            for i, scorer in enumerate(member.scorer.of):
                yield f"bank/{part.name}/{member.variant}/{i}", scorer


def _longest(detector: Detector) -> int:
    """Bank pieces of the largest bank."""
    return max(len(scorer.vectors) if isinstance(scorer, Neighbours) else 0 for _, scorer in _scorers(detector))


def _banks(detector: Detector, length: int) -> Arrays:
    """Every scorer's arrays by name, those of neighbours with room for so many pieces."""
    arrays: Arrays = {}
    for name, scorer in _scorers(detector):
        if isinstance(scorer, Gaussian):
            arrays |= {f"{name}/mean": scorer.mean, f"{name}/whitening": scorer.whitening}
        else:
            room = max(length, scorer.k) - len(scorer.vectors)
            spacing = np.ones(len(scorer.vectors), np.float32) if scorer.spacing is None else scorer.spacing
            arrays[f"{name}/vectors"] = np.pad(scorer.vectors, ((0, room), (0, 0)))
            arrays[f"{name}/spacing"] = np.pad(spacing, (0, room), constant_values=np.nan)  # none there
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _distances(scorer: Neighbours | Gaussian, arrays: Arrays, name: str, queries: jax.Array) -> jax.Array:
    """As the scorer itself, of the function's arguments: (q, d) -> (q,)."""
    if isinstance(scorer, Gaussian):
        centred = queries - arrays[f"{name}/mean"][None]
        return jnp.linalg.norm(jnp.matmul(centred, arrays[f"{name}/whitening"], precision="highest"), axis=1)
    cosines = jnp.matmul(queries, arrays[f"{name}/vectors"].T, precision="highest")
    distances = (1 - cosines) / arrays[f"{name}/spacing"][None]
    nearest = -jax.lax.top_k(jnp.where(jnp.isnan(distances), -jnp.inf, -distances), scorer.k)[0]
    there = jnp.isfinite(nearest)
    return jnp.sum(jnp.where(there, nearest, 0.0), axis=1) / jnp.sum(there, axis=1)
