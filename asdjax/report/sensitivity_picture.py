"""Picture of a machine type's sensitivity: the share of mixed faults found against their size, by kind of fault."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdjax.report.figures import COLOURS, Picture, add_legend, make_label, make_picture

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def make_sensitivity_picture(machine: str, measured: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Return the picture of some systems' entries in results.json, by system, for a machine type."""
    kinds = list(next(iter(measured.values()))["kinds"])
    return make_picture(
        lambda figure: plot_sensitivity(figure, measured, kinds),
        1.2 + 1.7 * (-(-len(kinds) // 2)),
        alt=f"Share of the faults mixed into normal clips of {machine} that {', '.join(measured)} find, by the size of "
        f"the fault, for {', '.join(kinds)}",
        caption="Faults of a known size were mixed into normal clips; no label was used. A size of 0 dB is as loud as "
        "the clip itself. Lines: share of these clips above the threshold, with the 95 % interval of the first system. "
        "The further left a line rises, the smaller the faults that are found. To the left are false alarms.",
    )


def plot_sensitivity(figure: Figure, measured: Mapping[str, Mapping[str, Any]], kinds: Sequence[str]) -> None:
    """Plot the shares found on an empty figure, a panel for each kind of fault."""
    rows = -(-len(kinds) // 2)
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for axes, kind in zip(panels.flat, kinds, strict=False):
        for i, (system, entry) in enumerate(measured.items()):
            _plot_line(axes, system, entry["kinds"][kind]["sizes"], i)
        axes.set_title(make_label(kind))
        axes.set_ylim(-3, 103)
    for axes in panels.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("size of the fault (dB)")
    for axes in panels[:, 0]:
        axes.set_ylabel("found (%)")
    add_legend(figure, 2)


def _plot_line(axes: Axes, system: str, sizes: Sequence[Mapping[str, Any]], number: int) -> None:
    colour, size_db = COLOURS[number % len(COLOURS)], [one["size_db"] for one in sizes]
    marker = _MARKERS[number % len(_MARKERS)]
    share = 100 * np.array([one["share"] for one in sizes])
    axes.plot(size_db, share, color=colour, marker=marker, ms=3.5, lw=1.3, label=make_label(system))
    if number == 0:
        low, high = 100 * np.array([one["interval"] for one in sizes]).T
        axes.fill_between(size_db, low, high, color=colour, alpha=0.15, lw=0)
