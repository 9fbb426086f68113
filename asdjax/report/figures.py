"""How a report's figures look, and how they get into the page: SVG in a data: URI, the same bytes every time.

As images of their own they need no names that are unique in the page, run nothing, and carry an alternative text.
"""

import base64
import io
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.style
from matplotlib import font_manager, ft2font
from matplotlib.artist import Artist
from matplotlib.figure import Figure

# Okabe and Ito (2008), which people see apart whatever their colour vision; without the yellow, too pale on white
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, BLACK = "#56B4E9", "#CC79A7", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
NORMAL, ANOMALY, TRAINING, THRESHOLD = BLUE, VERMILION, "#767676", BLACK

INK, FAINT = "#1c2733", "#d9dee3"
WIDTH_INCHES = 4.6
"""Of every figure: a text of 8.5 points is then as easy to read on a telephone as in a third of a wide page."""

_STYLE = {
    "svg.hashsalt": "asdjax",
    "svg.fonttype": "path",  # text as shapes: no font is asked for
    "text.parse_math": False,  # a machine may be called $x$
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "image.interpolation": "none",
}
_LONGEST_LABEL = 24


class Picture(NamedTuple):
    """A figure for the page: the data: URI of its image, what it shows in words, and the caption below it."""

    uri: str
    alt: str
    caption: str


def picture(draw: Callable[[Figure], None], height_inches: float, *, alt: str, caption: str) -> Picture:
    """What `draw` puts on an empty figure of WIDTH_INCHES, whatever style this user has set for matplotlib."""
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        draw(figure)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(data_uri("image/svg+xml", svg.getvalue()), alt, caption)


def data_uri(kind: str, content: bytes) -> str:
    """Content as a URI that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def label(text: str) -> str:
    """Text from outside for a figure: cut short, on one line, without what the font does not have."""
    known = ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    shown = "".join(letter if ord(letter) in known and letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _LONGEST_LABEL else f"{shown[: _LONGEST_LABEL - 1]}…"


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for the whole figure, under it, each entry once."""
    seen: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            seen.setdefault(text, handle)
    figure.legend(list(seen.values()), list(seen), loc="outside lower center", ncols=columns)
