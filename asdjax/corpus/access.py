"""The corpus and the decoded audio that a configuration names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asdjax.config import Config
from asdjax.corpus.clips import Clip, Corpus
from asdjax.corpus.layouts import read_corpus
from asdjax.corpus.store import WaveStore, open_store

Stores = Mapping[str, WaveStore]
"""By machine type; each holds all clips of its machine type, training and test."""


def open_corpus(config: Config) -> Corpus:
    """All clips under `config.data.root`, of `config.data.machines` only if any are named."""
    return read_corpus(config.data.root, config.data.layout, config.data.machines)


def open_stores(config: Config, workdir: Path, corpus: Corpus, machines: Sequence[str]) -> Stores:
    """The stores of machine types, built where missing, in `config.data.store` or W/store."""
    folder = Path(config.data.store) if config.data.store else workdir / "store"
    return {
        machine: open_store(
            folder,
            machine,
            corpus.select(machine=machine),
            sample_rate_hz=config.signal.sample_rate_hz,
            on_mismatch=config.data.on_mismatch,
        )
        for machine in machines
    }


def samples_of(stores: Stores, clips: Sequence[Clip]) -> list[np.ndarray]:
    """Each clip's samples, int16 (s,), as views of the mapped stores."""
    where = {clip.path: (store, i) for store in stores.values() for i, clip in enumerate(store.clips)}
    return [store.samples(i) for store, i in (where[clip.path] for clip in clips)]
