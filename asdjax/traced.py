"""Jitted functions whose traces are kept between processes.

JAX keeps compiled programs, but finds one only by tracing and lowering the function anew.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax import export

from asdjax import runtime

_DIGEST_BYTES = hashlib.sha256().digest_size


def traced(function: Callable, name: str, *arguments: Any) -> Callable:
    """`function` jitted for arguments of these shapes, as it was traced here or by an earlier process.

    What it computes must depend on nothing but `name`, its arguments, JAX's settings and this package's source.
    """
    cache = runtime.private_cache("traced")
    file = cache / _digest(name, arguments) if cache else None
    found = _read(file) if file else None
    if found is None:
        found = export.export(jax.jit(function))(*arguments)
        if file:
            content = bytes(found.serialize())
            runtime.keep(file, hashlib.sha256(content).digest() + content)
    return jax.jit(found.call)


def _read(file: Path) -> export.Exported | None:
    """What was kept; None where it is not there or damaged."""
    try:
        kept = file.read_bytes()
    except OSError:
        return None
    digest, content = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    return export.deserialize(bytearray(content)) if hashlib.sha256(content).digest() == digest else None


def _digest(name: str, arguments: Any) -> str:
    """Of all that a trace depends on."""
    settings = {setting: repr(value) for setting, value in jax.config.values.items()}
    versions = [version(package) for package in ("jax", "jaxlib", "flax", "numpy")]
    about = [name, str(arguments), jax.default_backend(), settings, versions, _source()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


@functools.cache
def _source() -> str:
    """The digest of this package's source."""
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
