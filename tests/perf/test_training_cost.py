"""tests/perf/training_cost.py: it compiles the step that training would."""

import sys

from conftest import SHALLOW, quick_compiles, shallow_networks

sys.path.insert(0, "tests/perf")
import training_cost

from asdjax.training import step as step_module


def test_it_compiles_the_step_anew_and_says_what_it_needs():
    with quick_compiles(), shallow_networks():
        for _ in range(2):
            seconds, state, temporaries = training_cost.compiled(("resnet50_512",), 2, SHALLOW)
            assert seconds > 0
            assert 0 < state < temporaries
            assert step_module._compile_steps.cache_info()[:2] == (0, 1)  # hits, misses
