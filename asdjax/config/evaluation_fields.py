"""Fields of scoring and evaluation; training reads none of them."""

from typing import Literal

from asdjax.config.field_spec import COUNT, OPEN, FieldGroup, between, field, positive

#: Prefixes of the fields that training never reads.
EVALUATION_PREFIXES = ("evaluate.", "baselines.")

_BASELINE = "DCASE 2021 baseline"


class EvaluateFields(FieldGroup):
    """Scores, ensembles and thresholds."""

    backend: Literal["knn", "knn_density", "kmeans", "mahalanobis"] = field(
        "knn",
        "distance of a piece from its bank; see inference/backends.py. knn_density, in units of the bank's density, "
        "was better with MobileFaceNet on three real corpora",
        source="report",
    )
    k: int = field(10, "nearest bank pieces averaged", unit="pieces", source="report, Table 3", rule=COUNT)
    density_k: int = field(
        16, "knn_density only: nearest bank pieces that give the bank's density at a piece", unit="pieces", rule=COUNT
    )
    prototypes: int = field(16, "kmeans only: centres of a bank's source pieces", rule=COUNT)
    bank: Literal["section", "same_domain", "either_domain"] = field(
        "section",
        "training pieces that a test piece is compared with: the section's, those of the same domain (test clips must "
        "have a known one, until 2021), or the nearer of both domains",
        source=OPEN,
    )
    bank_pieces: int = field(
        0,
        "most pieces of a bank that a new piece is compared with, those farthest apart (greedy k-centre); 0: all",
        unit="pieces",
        rule=between(0, 100_000_000),
    )
    smote_ratio: float = field(
        0.0,
        "ratio of target to source pieces in a bank, reached by SMOTE; 0: no synthetic pieces",
        rule=between(0, 10),
    )
    pooling: Literal["mean", "max", "top"] = field(
        "mean", "a clip's score from its pieces' scores; top: mean of the highest", source=OPEN
    )
    top_pieces: int = field(3, "pooling=top only: highest pieces averaged", unit="pieces", rule=COUNT)
    stride_frames: int = field(
        32,
        "distance between the starts of a clip's pieces, in the bank too",
        unit="STFT frames",
        source=OPEN,
        rule=COUNT,
    )
    lines: tuple[str, ...] = field(
        (),
        "checkpoint lines that make the models: phase1, phase2_full and so on; empty: the first strategy, else phase1",
        distinct=True,
    )
    ensemble: Literal["score", "rank", "zscore"] = field(
        "score", "quantity that ensembles average; rank and zscore are taken among training scores"
    )
    system: Literal["all_mean", "combined"] = field(
        "all_mean",
        "system of score, export and the report: the average of all models, or that together with mean_log_mel and "
        "mean_std_log_mel",
    )
    threshold_percentile: float = field(
        90.0,
        "threshold's percentile of training scores, of a gamma distribution where one fits them",
        unit="%",
        source=_BASELINE,
        rule=between(0.01, 99.99),
    )
    threshold_per: Literal["machine", "section", "section_domain"] = field(
        "machine", "training scores that share a threshold; section_domain: until 2021 only", source=_BASELINE
    )
    threshold_few_clips: int = field(
        20,
        "threshold_per=section_domain only: a domain with fewer training clips has few",
        unit="clips",
        source=OPEN,
        rule=between(0, 1_000_000),
    )
    threshold_few: Literal["predicted", "section"] = field(
        "predicted",
        "threshold of a domain with few clips: predicted from them and the other domain's spread, or the "
        "section's threshold",
        source=OPEN,
    )
    sensitivity_clips: int = field(
        24,
        "evaluate --sensitivity only: recordings of a machine type that faults are mixed into, each 24 times",
        unit="clips",
        rule=COUNT,
    )
    batch_size: int = field(64, "pieces embedded at once", unit="pieces", rule=COUNT)


class BaselinesFields(FieldGroup):
    """Auto-encoder of `evaluate --baselines`."""

    epochs: int = field(
        100, "passes over all vectors of a machine type's training clips", unit="epochs", source=_BASELINE, rule=COUNT
    )
    batch_size: int = field(512, "batch; a vector has 5 log-mel frames", unit="vectors", source=_BASELINE, rule=COUNT)
    learning_rate: float = field(1e-3, "learning rate of Adam", source="Keras", rule=positive())
