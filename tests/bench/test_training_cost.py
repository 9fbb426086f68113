"""tests/peers/training_cost.py: it compiles the step that training would."""

import sys

from conftest import SHALLOW, quick_compiles, shallow_networks

sys.path.insert(0, "tests/peers")
import training_cost


def test_a_step_is_compiled_as_often_as_it_is_asked_for():
    with quick_compiles(), shallow_networks():
        first, again = (training_cost.compiled(("resnet50_512",), 2, SHALLOW) for _ in range(2))
    assert first[0] > 0
    assert first[1:] == again[1:]
    state, temporaries = first[1:]
    assert 0 < state < temporaries
