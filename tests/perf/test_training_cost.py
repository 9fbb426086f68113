"""tests/perf/training_cost.py: the compiled step is training's."""

import sys

from conftest import SHALLOW, shallow_networks

sys.path.insert(0, "tests/perf")
import training_cost

from asdjax.training import step as step_module


def test_it_compiles_the_step_anew_and_says_what_it_needs():
    with shallow_networks():
        for _ in range(2):
            seconds, state, temporaries = training_cost.compile_step(("resnet50_512",), 2, SHALLOW)
            assert seconds > 0
            assert 0 < state < temporaries
            assert step_module._compile_steps.cache_info()[:2] == (0, 1)  # hits, misses
