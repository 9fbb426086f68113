"""Votes are known one dispatch later, and a save that is due is wished once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asdjax.runtime import hardware, processes
from asdjax.training.votes import StopVotes, Wishes

NOTHING = Wishes(stop=False, save=False)


def test_a_process_alone_does_what_it_wishes_at_once():
    votes = StopVotes(hardware.make_meshes(1)[0])
    assert votes.cast(Wishes(stop=True, save=False), jnp.zeros(3)) == Wishes(stop=True, save=False)


def test_several_know_a_dispatch_later_and_save_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "compile_together", lambda function: function)
    votes, save = StopVotes(hardware.make_meshes(1, jax.devices()[:1])[0]), Wishes(stop=False, save=True)
    behind = jnp.full(3, np.nan)  # of a training that has diverged
    assert votes.cast(save, behind) == NOTHING
    assert votes.cast(save, behind) == save  # the clock still says so, as the save begins only now
    assert votes.cast(NOTHING, behind) == NOTHING
    assert votes.cast(Wishes(stop=True, save=True), behind) == NOTHING
    assert votes.cast(NOTHING, behind) == Wishes(stop=True, save=True)
