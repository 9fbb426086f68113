"""Jitted functions whose traces are kept between processes.

JAX keeps compiled programs, but finds one only by tracing and lowering the function anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from asdjax.runtime import jax_setup

_DIGEST_BYTES = hashlib.sha256().digest_size


def cached_jit(function: Callable, name: str, *arguments: Any) -> Callable:
    """`function` jitted for arguments of these shapes, as it was traced here or by an earlier process.

    What it computes must depend on nothing but `name`, its arguments, JAX's settings and this package's source.
    """
    cache = jax_setup.private_cache("traced")
    file = cache / jax_setup.digest_program(name, str(arguments), jax.default_backend()) if cache else None
    found = _read(file) if file else None
    if found is None:
        found = export.export(jax.jit(function))(*arguments)
        if file:
            content = bytes(found.serialize())
            jax_setup.write_private(file, hashlib.sha256(content).digest() + content)
    return jax.jit(found.call, compiler_options=jax_setup.compiler_options(jax.default_backend()))


def _read(file: Path) -> export.Exported | None:
    """What was kept; None where it is not there or damaged."""
    try:
        kept = file.read_bytes()
    except OSError:
        return None
    digest, content = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    return export.deserialize(bytearray(content)) if hashlib.sha256(content).digest() == digest else None
