"""Style of the report's figures, and their form in the page: SVG images in data: URIs, equal bytes for equal data."""

import base64
import io
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.style
from matplotlib import font_manager, ft2font
from matplotlib.artist import Artist
from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), distinct for every kind of colour vision; without yellow, too pale on white.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, BLACK = "#56B4E9", "#CC79A7", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
NORMAL, ANOMALY, TRAINING, THRESHOLD = BLUE, VERMILION, "#767676", BLACK

INK, FAINT = "#1c2733", "#d9dee3"

# At this width, text of 8.5 points is readable on a telephone and in a third of a wide page.
WIDTH_INCHES = 4.6

_STYLE = {
    "svg.hashsalt": "asdjax",
    "svg.fonttype": "path",  # text as shapes, so that the reader needs no font
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
    """A figure in the page: the data: URI of its image, its alternative text and its caption."""

    uri: str
    alt: str
    caption: str


def make_picture(plot: Callable[[Figure], None], height_inches: float, *, alt: str, caption: str) -> Picture:
    """Return a picture of WIDTH_INCHES. `plot` fills the empty figure; the user's matplotlib style has no effect."""
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        plot(figure)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(encode_data_uri("image/svg+xml", svg.getvalue()), alt, caption)


def encode_data_uri(media_type: str, content: bytes) -> str:
    """Return a URI that contains the content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def make_label(text: str) -> str:
    """Return a name as one short line that the figures' font can show; other characters become `?`."""
    known = ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    shown = "".join(letter if ord(letter) in known and letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _LONGEST_LABEL else f"{shown[: _LONGEST_LABEL - 1]}…"


def add_legend(figure: Figure, columns: int) -> None:
    """Add one legend below the figure, with each label of its axes once."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
