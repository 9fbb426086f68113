"""Every field of a configuration, with its unit and source; validation; the resolved JSON in the work directory.

"report": Zhou 2021, the technical report that this project reproduces. OPEN: the report is silent, the value is
this project's choice and is meant to be experimented with.
"""

import difflib
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from asdjax.errors import InputError

Config = Any
"""An `ml_collections.ConfigDict`, whose fields no type checker knows."""

VARIANTS = (
    "mobilefacenet_1024",
    "mobilefacenet_512",
    "resnet50_1024",
    "resnet50_512",
    "efficientnet_b0_1024",
    "efficientnet_b0_512",
)
"""The names of models/variants.py, told here without importing JAX."""

STRATEGIES = ("full", "last_block", "backbone", "arcface")
"""Of phase 2: training/optimizer.py says which parameters each trains."""


def default_config() -> Config:
    """The report's settings for DCASE 2021; configs/*.py start from it."""
    config: Config = ConfigDict()
    config.seed = (0,)  # one or several; each is a fleet of its own
    config.variants = VARIANTS  # any subset
    config.width = 1.0  # multiplier of every backbone's channels; 1 is the report's

    config.data = ConfigDict()
    config.data.root = ("data",)  # folders that hold machine folders, e.g. dev_data,eval_data
    config.data.truth = ""  # folder of ground_truth_*.csv or eval_data_list.csv: labels of evaluation clips
    config.data.store = ""  # folder of the decoded audio; empty: store/ in the work directory
    config.data.layout = "auto"  # auto | dcase2020 | dcase2021 | dcase2022 (2022 on) | manifest
    config.data.machines = ()  # machine types; empty: all that are there
    config.data.classes = "auto"  # auto | section | machine_section | machine_section_attributes
    config.data.resident = "auto"  # auto: on the device where it fits | device | host: crops cut there, one step ahead
    config.data.on_mismatch = "error"  # error | convert: resample, mix down or take one channel, requantise, take lossy
    config.data.channel = "mean"  # of several channels, where converted: mean, or the number of one, from 1

    config.signal = ConfigDict()
    config.signal.sample_rate_hz = 16000  # report, Table 3
    config.signal.n_fft = 2046  # samples; report, Table 3
    config.signal.hop_samples = 512  # report, Table 3
    config.signal.piece_frames = 32  # STFT columns of a piece; report 1.2
    config.signal.value = "log"  # log | magnitude | power; OPEN
    config.signal.pool = "mean"  # mean | stack: how 1024 bins become 512; OPEN ("reshaped" in report 1.2)

    config.normalisation = ConfigDict()  # of every backbone; epsilon 1e-5, decay 0.9 (models/layers.py); OPEN
    # of a batch's n values a channel, into the running average; the batch itself is normalised by the biased one
    config.normalisation.running_variance = "biased"  # biased: over n | unbiased: over n - 1, as PyTorch's; OPEN

    config.loss = "arcface"  # arcface | adacos_fixed | adacos (Zhang 2019) | subcluster_adacos (Wilkinghoff 2021)

    config.arcface = ConfigDict()
    config.arcface.margin_radians = 0.05  # report, Table 3
    config.arcface.scale = 30.0  # report, Table 3
    config.arcface.subcentres = 1  # centres per class, of every loss; the report tried more and left them out (2.1)

    config.mixup = ConfigDict()
    config.mixup.max_weight = 0.5  # w ~ U[0, max_weight); report, Table 3
    config.mixup.labels = "soft"  # soft: both clips' classes by weight | dominant: the heavier clip's; OPEN

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.05  # report, Table 3
    config.optimizer.momentum = 0.9  # OPEN
    config.optimizer.weight_decay = 0.0  # of kernels and centres, not of normalisations, PReLUs and biases; OPEN
    config.optimizer.clip_norm = 0.0  # largest norm of a variant's gradient; 0: unlimited; OPEN
    config.optimizer.schedule = "constant"  # of each phase: constant | cosine (to 0) | step; OPEN
    config.optimizer.warmup_steps = 0  # at the start of each phase, from near 0 to the learning rate
    config.optimizer.step_at = (0.5, 0.75)  # schedule=step: shares of a phase at which the rate falls
    config.optimizer.step_factor = 0.1  # schedule=step: what it is multiplied by there

    config.train = ConfigDict()
    config.train.batch_size = 48  # pieces per variant and step, over all devices; report, Table 3
    config.train.precision = "auto"  # auto | float32 | bfloat16; auto: bfloat16 on GPU and TPU; OPEN
    config.train.steps_per_dispatch = 0  # steps per call of the compiled program; 0: 1 on a CPU, else 50
    config.train.variants_per_group = 0  # variants whose gradients a step computes together; 0: by the device's memory
    config.train.log_every_steps = 50
    config.train.checkpoint_every_steps = 1000  # the last step of a phase is always saved
    config.train.keep = 2  # newest checkpoints kept per phase
    config.train.holdout_fraction = 0.0  # of each class's normal clips, never trained on: loss and accuracy are logged

    config.parallel = ConfigDict()
    config.parallel.device_groups = 1  # rows of devices, each of which trains a fleet (or stack) of its own
    config.parallel.fleets_per_program = (
        0  # fleets of equal class counts that train in one program; 0: on a GPU what fits, else 1
    )

    config.phase1 = ConfigDict()
    config.phase1.epochs = 250.0  # report 2.4; an epoch is as many pieces as there are source clips, OPEN
    config.phase1.steps = placeholder(int)  # if set, wins over epochs

    config.phase2 = ConfigDict()
    config.phase2.steps = 5000  # report 2.4
    config.phase2.epochs = placeholder(float)  # of the source clips, as in phase 1; if set, wins over steps
    config.phase2.strategies = ("full",)  # any of full, last_block, backbone, arcface; empty: no phase 2; OPEN
    config.phase2.learning_rate = ConfigDict({strategy: placeholder(float) for strategy in STRATEGIES})
    # phase2.learning_rate.<strategy>: where it is not set, the optimizer's

    config.evaluate = ConfigDict()
    config.evaluate.backend = "knn"  # knn | knn_density | kmeans | mahalanobis; see evaluation/backends.py
    config.evaluate.k = 10  # nearest bank pieces averaged; report, Table 3
    config.evaluate.density_k = 16  # knn_density: nearest bank pieces that tell how dense a bank is at a piece
    config.evaluate.prototypes = 16  # kmeans: centres of a bank's source pieces
    config.evaluate.bank = "section"  # section: both domains together | same_domain (until 2021) | either_domain; OPEN
    config.evaluate.smote_ratio = 0.0  # target pieces of a bank over source pieces, made up by SMOTE; 0: none made up
    config.evaluate.pooling = "mean"  # of a clip's pieces: mean | max | top: mean of the highest; OPEN
    config.evaluate.top_pieces = 3  # pooling=top: how many
    config.evaluate.stride_frames = 32  # between the starts of a clip's pieces, in the bank too; OPEN
    config.evaluate.lines = ()  # checkpoint lines that make the models; empty: the first strategy, else phase1
    config.evaluate.ensemble = "score"  # what ensembles average: score | rank | zscore; both among training scores
    config.evaluate.threshold_percentile = 90.0  # of the gamma distribution of training scores, %; method: baselines
    config.evaluate.threshold_per = "machine"  # machine: baselines | section | section_domain (until 2021)
    config.evaluate.threshold_few_clips = 20  # section_domain: a domain with fewer training clips has few; OPEN
    config.evaluate.threshold_few = "scaled"  # of few: scaled: shape of the section's other domain | section; OPEN
    config.evaluate.batch_size = 64  # pieces embedded at once

    config.baselines = ConfigDict()  # the auto-encoder of evaluate --baselines; values: the DCASE 2021 baseline's
    config.baselines.epochs = 100  # passes over all vectors of a machine type's training clips
    config.baselines.batch_size = 512  # vectors, of 5 log-mel frames each
    config.baselines.learning_rate = 1e-3  # of Adam; Keras's default
    return config


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "data.layout": ("auto", "dcase2020", "dcase2021", "dcase2022", "manifest"),
    "data.classes": ("auto", "section", "machine_section", "machine_section_attributes"),
    "data.on_mismatch": ("error", "convert"),
    "data.resident": ("auto", "device", "host"),
    "loss": ("arcface", "adacos_fixed", "adacos", "subcluster_adacos"),
    "optimizer.schedule": ("constant", "cosine", "step"),
    "normalisation.running_variance": ("biased", "unbiased"),
    "signal.value": ("log", "magnitude", "power"),
    "signal.pool": ("mean", "stack"),
    "mixup.labels": ("soft", "dominant"),
    "train.precision": ("auto", "float32", "bfloat16"),
    "evaluate.backend": ("knn", "knn_density", "kmeans", "mahalanobis"),
    "evaluate.bank": ("section", "same_domain", "either_domain"),
    "evaluate.pooling": ("mean", "max", "top"),
    "evaluate.threshold_per": ("machine", "section", "section_domain"),
    "evaluate.threshold_few": ("scaled", "section"),
    "evaluate.ensemble": ("score", "rank", "zscore"),
}
_SUBSETS: Mapping[str, tuple[str, ...]] = {
    "variants": VARIANTS,
    "phase2.strategies": STRATEGIES,
}
_MOST_STEPS = 10_000_000
_MOST_WHOLE = 1_000_000_000
_MOST: Mapping[str, float] = {
    "arcface.subcentres": 1000,
    "train.batch_size": 1_000_000,
    "parallel.device_groups": 1000,
    "phase1.epochs": _MOST_STEPS,
    "phase1.steps": _MOST_STEPS,
    "phase2.epochs": _MOST_STEPS,
    "phase2.steps": _MOST_STEPS,
}
"""What some of the numbers below may be at most, other whole ones _MOST_WHOLE; no run has use for more."""
_POSITIVE = (
    "signal.sample_rate_hz",
    "signal.n_fft",
    "signal.hop_samples",
    "signal.piece_frames",
    "arcface.scale",
    "arcface.subcentres",
    "optimizer.learning_rate",
    "train.batch_size",
    "train.log_every_steps",
    "train.checkpoint_every_steps",
    "train.keep",
    "parallel.device_groups",
    "phase1.epochs",
    "phase1.steps",
    "phase2.steps",
    "phase2.epochs",
    *(f"phase2.learning_rate.{strategy}" for strategy in STRATEGIES),
    "evaluate.k",
    "evaluate.density_k",
    "evaluate.prototypes",
    "evaluate.top_pieces",
    "evaluate.stride_frames",
    "evaluate.batch_size",
    "baselines.epochs",
    "baselines.batch_size",
    "baselines.learning_rate",
)
# field: (from, to), ends included unless the comment in `default` says otherwise
_RANGES: Mapping[str, tuple[float, float]] = {
    "width": (0.01, 16),
    "arcface.margin_radians": (0, 1.5),
    "mixup.max_weight": (0, 0.5),
    "optimizer.momentum": (0, 0.999),
    "optimizer.weight_decay": (0, 1),
    "optimizer.clip_norm": (0, 1e9),
    "optimizer.warmup_steps": (0, 10_000_000),
    "optimizer.step_factor": (0, 1),
    "train.holdout_fraction": (0, 0.5),
    "train.steps_per_dispatch": (0, 10_000),
    "train.variants_per_group": (0, 6),
    "parallel.fleets_per_program": (0, 1000),
    "evaluate.smote_ratio": (0, 10),
    "evaluate.threshold_percentile": (0, 99.99),
    "evaluate.threshold_few_clips": (0, 1_000_000),
}


def flatten_fields(config: Config, prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted name."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            leaves |= flatten_fields(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def suggest(field: str) -> str:
    """The known fields that an unknown one may have meant: those whose last word it is, else that hold it, else that
    are spelled like it; or if there are none, all that a configuration begins with."""
    known = flatten_fields(default_config())
    close = (
        [name for name in known if name.rsplit(".", 1)[-1] == field]
        or [name for name in known if len(field) > 2 and field in name]
        or difflib.get_close_matches(field, known, cutoff=0.5)
    )[:3]
    names = ", ".join(f"config.{name}" for name in close or default_config())
    return f"the nearest are {names}" if close else f"there are {names}"


def validate(config: Config) -> None:
    """Raise InputError for the first field that no run could use, naming what is allowed."""
    fields = flatten_fields(config)
    known = flatten_fields(default_config())
    for field in fields:
        if field not in known:
            raise InputError(f"config.{field}: no such field; {suggest(field)}")
        _require_kind(field, fields[field], known[field])
    for field, allowed in _CHOICES.items():
        if fields[field] not in allowed:
            raise InputError(f"config.{field}: expected one of {', '.join(allowed)}, got {fields[field]!r}")
    for field, allowed in _SUBSETS.items():
        _require_subset(field, fields[field], allowed)
    for field in _POSITIVE:
        whole = isinstance(fields[field], int)
        most = _MOST.get(field, _MOST_WHOLE if whole else sys.float_info.max)
        if fields[field] is not None and not 0 < fields[field] <= most:
            at_most = f", {most} at most" if whole or field in _MOST else ""
            raise InputError(f"config.{field}: expected a number above 0{at_most}, got {fields[field]!r}")
    for field, (low, high) in _RANGES.items():
        if not low <= fields[field] <= high:
            raise InputError(f"config.{field}: expected {low} to {high}, got {fields[field]!r}")
    _require_whole(config)


def _require_kind(field: str, value: Any, like: Any) -> None:
    """What a ConfigDict does not see to: None in place of a value, and what a tuple holds."""
    if value is None and like is not None:
        raise InputError(f"config.{field}: expected a value such as {like!r}, got None")
    if isinstance(value, bool) and not isinstance(like, bool):
        raise InputError(f"config.{field}: expected a value such as {like!r}, got {value}")
    items = item_type(field)
    if isinstance(value, tuple) and not all(type(item) is items for item in value):
        raise InputError(f"config.{field}: expected values of kind {items.__name__}, got {value!r}")


def item_type(field: str) -> type:
    """What a field that takes several values takes."""
    return {"seed": int, "optimizer.step_at": float}.get(field, str)


def _require_subset(field: str, chosen: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for name in chosen:
        if name not in allowed:
            raise InputError(f"config.{field}: expected any of {', '.join(allowed)}, got {name!r}")
    if len(set(chosen)) < len(chosen):
        raise InputError(f"config.{field}: expected each name once, got {', '.join(chosen)}")


def _require_whole(config: Config) -> None:
    """What holds between fields."""
    for field in ("seed", "variants", "data.root"):
        if not flatten_fields(config)[field]:
            raise InputError(f"config.{field}: expected at least one, got none")
    for seed in config.seed:
        if not 0 <= seed < 2**32:
            raise InputError(f"config.seed: expected 0 to {2**32 - 1}, got {seed}")
    for field in ("seed", "evaluate.lines"):
        chosen = flatten_fields(config)[field]
        if len(set(chosen)) < len(chosen):
            raise InputError(f"config.{field}: expected each once, got {', '.join(map(str, chosen))}")
    if not all(0 < share < 1 for share in config.optimizer.step_at):
        raise InputError(f"config.optimizer.step_at: expected shares between 0 and 1, got {config.optimizer.step_at}")
    if config.data.channel != "mean" and not (config.data.channel.isdecimal() and int(config.data.channel) > 0):
        raise InputError(f"config.data.channel: expected mean or a number from 1, got {config.data.channel!r}")
    if config.signal.n_fft % 2:
        raise InputError(f"config.signal.n_fft: expected an even number, got {config.signal.n_fft}")
    bins = 1 + config.signal.n_fft // 2
    heights = {int(variant.rsplit("_", 1)[1]) for variant in config.variants}
    for height in heights:
        if bins % height:
            raise InputError(
                f"config.signal.n_fft: {config.signal.n_fft} gives {bins} bins, which pieces of height {height} "
                "do not divide; 2046 gives 1024"
            )
    lines = {"phase1", *(f"phase2_{strategy}" for strategy in config.phase2.strategies)}
    for line in config.evaluate.lines:
        if line not in lines:
            raise InputError(f"config.evaluate.lines: expected any of {', '.join(sorted(lines))}, got {line!r}")


def count_phase1_steps(config: Config, source_clips: int) -> int:
    """Steps of phase 1: as configured, or its epochs'."""
    if config.phase1.steps is not None:
        return config.phase1.steps
    return _steps_of("phase1", config, source_clips)


def count_phase2_steps(config: Config, source_clips: int) -> int:
    """Steps of a strategy of phase 2: its epochs', where they are configured, else as configured."""
    if config.phase2.epochs is None:
        return config.phase2.steps
    return _steps_of("phase2", config, source_clips)


def _steps_of(phase: str, config: Config, source_clips: int) -> int:
    """epochs * source clips / batch, rounded up."""
    epochs = config[phase].epochs
    steps = math.ceil(Fraction(str(epochs)) * source_clips / config.train.batch_size)
    if steps > _MOST_STEPS:
        raise InputError(
            f"config.{phase}.epochs: expected {_MOST_STEPS} steps at most, got {epochs}, which are {steps} steps of "
            f"{source_clips} clips at batch {config.train.batch_size}"
        )
    return steps


def list_evaluated_lines(config: Config) -> tuple[str, ...]:
    """The checkpoint lines that make the models, in the order they were named."""
    if config.evaluate.lines:
        return tuple(config.evaluate.lines)
    return (f"phase2_{config.phase2.strategies[0]}",) if config.phase2.strategies else ("phase1",)
