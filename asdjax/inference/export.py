"""`asdjax export`: a system as functions that need only JAX and flatbuffers, with weights, banks and thresholds.

Each machine type gets a folder. `function.jaxexport` is the serialized function for any number of clips of one length,
for CPU, CUDA and TPU; `weights.npz` holds the weights. Each section has `section_<section>.npz`, its banks, and
`section_<section>.json`, its threshold. If banks depend on the domain, each domain has such files instead:
`section_<section>_source` and `section_<section>_target`. If only thresholds do, a section of several domains has all
three; the section's own serve clips of an unknown domain. `example.py` next to the folders loads and calls a function.
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from asdjax import features
from asdjax.config.fields import Config
from asdjax.errors import InputError
from asdjax.fleet import embed
from asdjax.inference.detector import SectionDetector
from asdjax.inference.ensembles import Linear
from asdjax.inference.exported_function import find_longest_bank, list_banks, list_weights, score_with
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.inference.loaded_system import LoadedSystem, open_system
from asdjax.inference.stored_results import require_unchanged
from asdjax.runtime import hardware
from asdjax.runtime.files import LOCK, locked_folder
from asdjax.runtime.progress import track

PLATFORMS = ("cpu", "cuda", "tpu")
FUNCTION, WEIGHTS, EXAMPLE = "function.jaxexport", "weights.npz", "example.py"
PARTIAL = "export.partial"


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
    weights = list_weights(detector)
    longest = max(find_longest_bank(detector) for detector in detectors.values())
    banks = {name: list_banks(detector, longest) for name, detector in detectors.items()}
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
