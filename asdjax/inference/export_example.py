"""Scores of WAV or FLAC files by an exported system: python example.py MACHINE SECTION CLIP ...

SECTION is, for example, 00, or 00_source where each domain has files. It needs jax, flatbuffers, numpy and soundfile,
but not asdjax.
"""

import json
import sys
import unicodedata
from pathlib import Path

if len(sys.argv) < 4:
    sys.exit(__doc__)

import jax
import numpy as np
import soundfile
from jax import export

machine, section = (unicodedata.normalize("NFC", name) for name in sys.argv[1:3])
clips = sys.argv[3:]
folder = Path(__file__).parent / machine
if not (folder / f"section_{section}.json").is_file():
    known = sorted(
        f"{file.parent.name} {file.stem.removeprefix('section_')}" for file in folder.parent.glob("*/*.json")
    )
    sys.exit(f"{machine} {section}: expected one of {', '.join(known)}")
about = json.loads((folder / f"section_{section}.json").read_text())
arrays = {**np.load(folder / "weights.npz"), **np.load(folder / f"section_{section}.npz")}
function = export.deserialize(bytearray((folder / "function.jaxexport").read_bytes()))
score = jax.jit(function.call)
for clip in clips:
    expected = (about["sample_rate_hz"], 1, about["samples"], "PCM_16")
    try:
        info = soundfile.info(clip)
        samples, _ = soundfile.read(clip, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        sys.exit(f"{clip}: expected a recording, got {error}; copy or convert it")
    if (info.samplerate, *samples.shape[::-1], info.subtype) != expected:
        sys.exit(
            f"{clip}: expected {about['samples']} samples of one channel at {about['sample_rate_hz']} Hz in 16 bit, "
            f"got {len(samples)} of {info.channels} at {info.samplerate} Hz, {info.subtype}; "
            "asdjax export --seconds sets the length"
        )
    value = float(score(arrays, samples.T)["score"][0])
    print(clip, value, "anomaly" if value > about["threshold"] else "normal")
