"""What every test gets: strict JAX, and the way to real sound where it lies beside the project."""

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sound and published score files beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data beside the project, which is not here")
    return SHARED_DATA
