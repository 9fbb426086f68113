"""Jitted functions whose traces are cached between processes.

JAX caches compiled programs, but has to trace and lower a function to find its program.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from asdjax.runtime import private_cache
from asdjax.runtime.jax_setup import compiler_options

_DIGEST_BYTES = hashlib.sha256().digest_size


def cached_jit(function: Callable, name: str, *arguments: Any) -> Callable:
    """Return `function` jitted for arguments of these shapes, traced now or by an earlier process.

    The result may depend on nothing but `name`, the arguments, JAX's settings and this package's source.
    """
    platform = jax.default_backend()
    cache = private_cache.make_folder("traced")
    file = cache / private_cache.digest_program(name, str(arguments), platform) if cache else None
    exported = _read(file) if file else None
    if exported is None:
        exported = export.export(jax.jit(function))(*arguments)
        if file:
            content = bytes(exported.serialize())
            private_cache.write(file, hashlib.sha256(content).digest() + content)
    return jax.jit(exported.call, compiler_options=compiler_options(platform))


def _read(file: Path) -> export.Exported | None:
    """Return the cached trace, or None if the file is missing or damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, serialized = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return export.deserialize(bytearray(serialized)) if hashlib.sha256(serialized).digest() == digest else None
