"""`asdjax export`: a system as functions that need only JAX and flatbuffers, with weights, banks and thresholds.

Each machine type gets a folder. `function.jaxexport` is the serialized function for any number of clips of one length,
for CPU, CUDA and TPU; `weights.npz` holds the weights. Each section has `section_<section>.npz`, its banks, and
`section_<section>.json`, its threshold. If banks depend on the domain, each domain has such files instead:
`section_<section>_source` and `section_<section>_target`. If only thresholds do, a section of several domains has all
three; the section's own serve clips of an unknown domain. `example.py` next to the folders loads and calls a function.

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
from asdjax.features import Spectrogram
from asdjax.fleet import embed, fleet_model
from asdjax.fleet.fleet_model import Model
from asdjax.inference.backends import Gaussian, Neighbours
from asdjax.inference.clip_scores import POOLINGS
from asdjax.inference.detector import CheckpointModels, LoadedSystem, SectionDetector, open_system
from asdjax.inference.ensembles import Linear
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.inference.stored_results import require_unchanged
from asdjax.runtime import hardware
from asdjax.runtime.files import LOCK, locked_folder
from asdjax.runtime.progress import track

PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION, WEIGHTS, EXAMPLE = "function.jaxexport", "weights.npz", "example.py"
PARTIAL = "export.partial"

#: Arguments of the function besides samples: weights and banks, by name.
ExportedArrays = dict[str, Any]


def export(
    workdir: Path,
    out: Path,
    *,
    split: str | None,
    system: str | None,
    machines: Sequence[str],
    seconds: float | None,
) -> dict[Path, float]:
    """Write a system of an evaluation into a new folder. Return the functions' files, with their clips' seconds.

    Clips have `seconds` s, or without it the most common length of the machine type's training clips.

    `split` is as in `open_evaluation`, `system` as in `open_system`; without `machines`, all are exported. Raises
    InputError, and leaves nothing behind, if something is missing or cannot be exported or written. Partial files of a
    killed export do not prevent the next one.
    """
    evaluation = open_evaluation(workdir, split)
    known = evaluation.results["models"]
    chosen = machines or tuple(known)
    if unknown := sorted(set(chosen) - known.keys()):
        raise InputError(f"machines {unknown[0]}: expected any of {', '.join(known)}")
    with locked_folder(Path(os.path.abspath(out)), wait=False) as folder, _staged(folder, out) as partial:
        files = {}
        for machine in track(chosen, "export", len(chosen), "machine type"):
            length = evaluation.results["clip_seconds"][machine] if seconds is None else seconds
            samples = _count_samples(evaluation.config, length)
            detectors = _make_detectors(open_system(evaluation, system, machine))
            file = _write(partial / _check_file_name(machine), detectors, samples)
            files[out / file.relative_to(partial)] = samples / evaluation.config.signal.sample_rate_hz
        require_unchanged(evaluation.folder, evaluation.results)
        shutil.copy(Path(__file__).with_name("export_example.py"), partial / EXAMPLE)
    return files


def _make_detectors(system: LoadedSystem) -> dict[str, SectionDetector]:
    """Return the detectors of a system by the name of their files."""
    names = [_name_files(*place) for place in system.places]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"{system.machine}: expected a different file name for each section and domain, got {repeated[0]} twice; "
            "rename that section"
        )
    return {name: system.make_detector(*place) for name, place in zip(names, system.places, strict=True)}


@contextlib.contextmanager
def _staged(folder: Path, out: Path) -> Iterator[Path]:
    """Make a folder within a locked one, and move its content up when it is complete.

    A staging folder that exists already is of a killed export; it is removed with what was moved up before. Raises
    InputError, with the name `out`, if the locked folder has other files.
    """
    partial = folder / PARTIAL
    if partial.is_dir():
        (folder / EXAMPLE).unlink(missing_ok=True)
        for function in folder.glob(f"*/{FUNCTION}"):
            shutil.rmtree(function.parent)
    if any(path not in (partial, folder / LOCK) for path in folder.iterdir()):
        raise InputError(f"out {out}: expected a new or empty folder, got one with files; choose another")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        for path in partial.iterdir():
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _count_samples(config: Config, seconds: float) -> int:
    spectrogram = features.make_spectrogram(config)
    samples = round(seconds * spectrogram.sample_rate_hz) if math.isfinite(seconds) else 0
    if samples < spectrogram.least_samples:
        least = spectrogram.least_samples / spectrogram.sample_rate_hz
        raise InputError(f"seconds {seconds}: expected {least:.3f} or more, the length of a piece")
    return samples


def _check_file_name(name: str) -> str:
    if name.casefold() in ("", "..", EXAMPLE, PARTIAL) or Path(name).name != name:
        raise InputError(
            f"{name!r}: expected a machine type or section that can name a file; rename it and train again"
        )
    return name


def _name_files(section: str, domain: str | None) -> str:
    """Return the name of the files of a section or one of its domains, distinct from all others in the folder."""
    return _check_file_name("_".join(filter(None, ("section", section, domain))))


def _write(folder: Path, detectors: Mapping[str, SectionDetector], samples: int) -> Path:
    """Write the folder of a machine type, from its detectors by file name. Return the function's file."""
    detector = next(iter(detectors.values()))
    if not all(isinstance(member.normaliser, Linear) for part in detector.parts for member in part.members):
        raise InputError(
            "config.evaluate.ensemble: expected score or zscore, got rank, which cannot be exported; evaluate again "
            "with one of them, or export a single model by its name (system)"
        )
    weights = {name: np.asarray(leaf) for part in detector.parts for name, leaf in _list_weights(part).items()}
    longest = max(_longest_bank(detector) for detector in detectors.values())
    banks = {name: _list_banks(detector, longest) for name, detector in detectors.items()}
    shapes = {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in {**weights, **next(iter(banks.values()))}.items()
    }
    (b,) = jax_export.symbolic_shape("b")
    function = jax.jit(lambda arrays, clips: score_with(detector, arrays, clips))
    clips = jax.ShapeDtypeStruct((b, samples), jnp.int16)
    with hardware.compiling_for("cpu"):  # per-platform operations use the form that works on all platforms
        exported = jax_export.export(function, platforms=PLATFORMS)(shapes, clips)
    folder.mkdir()
    (folder / FUNCTION).write_bytes(exported.serialize())
    _save(folder / WEIGHTS, weights)
    for name, detector in detectors.items():
        _save(folder / f"{name}.npz", banks[name])
        (folder / f"{name}.json").write_text(json.dumps(_describe(detector, samples), indent=1) + "\n")
    return folder / FUNCTION


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def _describe(detector: SectionDetector, samples: int) -> dict[str, Any]:
    """Return the content of `section_<section>.json`."""
    spectrogram = detector.spectrogram
    starts = embed.list_piece_starts(samples, spectrogram, detector.stride_frames)
    return {
        "sample_rate_hz": spectrogram.sample_rate_hz,
        "samples": samples,
        "piece_begins_s": [frame * spectrogram.hop_samples / spectrogram.sample_rate_hz for frame in starts],
        "threshold": detector.threshold.value,
        "decision": "anomaly where score > threshold",
    }


def score_with(detector: SectionDetector, arrays: ExportedArrays, clips: jax.Array) -> dict[str, Any]:
    """Score clips int16 (b, s) by a detector's settings and the given arrays: the exported function.

    Returns `score` (b,), `pieces` (b, p) and, by model, `embeddings` (b, p, d).
    """
    starts = embed.list_piece_starts(clips.shape[1], detector.spectrogram, detector.stride_frames)
    crops = _cut_pieces(clips, starts, detector.spectrogram)
    embeddings, scores, pieces = {}, [], []
    for part in detector.parts:
        embedded = embed.embed(part.spec, _make_model(part, arrays), crops)
        for member in part.members:
            vectors = embedded[member.variant]
            name = f"{part.name}/{member.variant}"
            distances = [
                _measure(distance, arrays, f"bank/{name}/{i}", vectors)
                for i, distance in enumerate(member.scorer.distances)
            ]
            nearest = functools.reduce(jnp.fmin, distances).reshape(-1, len(starts))
            embeddings[name] = vectors.reshape(-1, len(starts), vectors.shape[-1])
            scale = cast(Linear, member.normaliser)
            scores.append(scale(POOLINGS[detector.scoring.pooling](nearest, detector.scoring.top_pieces)))
            pieces.append(scale(nearest))
    return {"score": sum(scores) / len(scores), "pieces": sum(pieces) / len(pieces), "embeddings": embeddings}


def _cut_pieces(clips: jax.Array, starts: Sequence[int], spectrogram: Spectrogram) -> jax.Array:
    """Cut out the samples under each piece: (b, s) -> (b * p, piece samples), with zeros outside the clips."""
    length, margin = spectrogram.piece_samples, spectrogram.n_fft // 2
    padded = jnp.pad(clips, ((0, 0), (margin, length)))
    begins = [features.first_sample(frame, spectrogram) + margin for frame in starts]
    return jnp.stack([padded[:, begin : begin + length] for begin in begins], axis=1).reshape(-1, length)


def _list_weights(part: CheckpointModels) -> ExportedArrays:
    """Return the arrays of a checkpoint that embedding needs, by name; `_make_model` is the inverse."""
    return {
        f"{part.name}/{kind}/{variant}/{path}": leaf
        for kind, by_variant in part.model._asdict().items()
        for variant in part.spec.variants
        for path, leaf in by_variant[variant].items()
        if path not in fleet_model.HEAD_PATHS
    }


def _make_model(part: CheckpointModels, arrays: ExportedArrays) -> Model:
    return Model(
        *(
            {
                variant: {
                    path: arrays[f"{part.name}/{kind}/{variant}/{path}"]
                    for path in by_variant[variant]
                    if path not in fleet_model.HEAD_PATHS
                }
                for variant in part.spec.variants
            }
            for kind, by_variant in part.model._asdict().items()
        )
    )


def _list_distances(detector: SectionDetector) -> Iterator[tuple[str, Neighbours | Gaussian]]:
    for part in detector.parts:
        for member in part.members:
            for i, distance in enumerate(member.scorer.distances):
                yield f"bank/{part.name}/{member.variant}/{i}", distance


def _longest_bank(detector: SectionDetector) -> int:
    """Return the number of pieces of the largest bank."""
    return max(len(one.vectors) if isinstance(one, Neighbours) else 0 for _, one in _list_distances(detector))


def _list_banks(detector: SectionDetector, length: int) -> ExportedArrays:
    """Return the arrays of every distance by name. Banks of neighbours are padded to `length` pieces."""
    arrays: ExportedArrays = {}
    for name, distance in _list_distances(detector):
        if isinstance(distance, Gaussian):
            arrays |= {f"{name}/mean": distance.mean, f"{name}/whitening": distance.whitening}
        else:
            missing = max(length, distance.k) - len(distance.vectors)
            spacing = np.ones(len(distance.vectors), np.float32) if distance.spacing is None else distance.spacing
            arrays[f"{name}/vectors"] = np.pad(distance.vectors, ((0, missing), (0, 0)))
            arrays[f"{name}/spacing"] = np.pad(spacing, (0, missing), constant_values=np.nan)  # NaN marks padding
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _measure(distance: Neighbours | Gaussian, arrays: ExportedArrays, name: str, queries: jax.Array) -> jax.Array:
    """Compute a distance in JAX from the function's arguments: (q, d) -> (q,)."""
    if isinstance(distance, Gaussian):
        centred = queries - arrays[f"{name}/mean"][None]
        return jnp.linalg.norm(jnp.matmul(centred, arrays[f"{name}/whitening"], precision="highest"), axis=1)
    cosines = jnp.matmul(queries, arrays[f"{name}/vectors"].T, precision="highest")
    distances = (1 - cosines) / arrays[f"{name}/spacing"][None]
    nearest = -jax.lax.top_k(jnp.where(jnp.isnan(distances), -jnp.inf, -distances), distance.k)[0]
    finite = jnp.isfinite(nearest)
    return jnp.sum(jnp.where(finite, nearest, 0.0), axis=1) / jnp.sum(finite, axis=1)
