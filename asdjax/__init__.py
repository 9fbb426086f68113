"""Anomalous sound detection with six ArcFace backbones per machine type, trained at once on normal recordings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asdjax.api import evaluate, load, official_metrics, prepare_evaluation, train, undo_accept, watch
    from asdjax.api_detector import Detector
    from asdjax.config.fields import default_config
    from asdjax.errors import InputError

__version__ = "0.1.0"

__all__ = [
    "Detector",
    "InputError",
    "default_config",
    "evaluate",
    "load",
    "official_metrics",
    "prepare_evaluation",
    "train",
    "undo_accept",
    "watch",
]

_HOMES = {
    "Detector": "asdjax.api_detector",
    "InputError": "asdjax.errors",
    "default_config": "asdjax.config.fields",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import asdjax` takes no time."""
    if name not in __all__:
        raise AttributeError(f"module 'asdjax' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "asdjax.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
