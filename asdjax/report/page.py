"""The page: one HTML file that holds all it shows and runs nothing."""

from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from asdjax import __version__
from asdjax.report.cards import Card
from asdjax.report.clip_selection import WHY
from asdjax.report.figures import Picture
from asdjax.report.report_tables import Counts, Table
from asdjax.report.sections import MachineSection

TEMPLATE = "report.html.jinja"
_OPEN = 3
"""So many machine types are shown unfolded; of more, the first."""


class Group(NamedTuple):
    """Clips explained for one reason."""

    title: str
    why: str
    cards: list[Card]


class Page(NamedTuple):
    """Everything that the page shows; texts are as they came and are escaped by the template."""

    title: str
    headline: str
    facts: list[tuple[str, str]]
    counts: Counts
    official: str | None
    interval: str | None
    systems: Table | None
    machines: list[MachineSection]
    limits: Table
    groups: list[Group]
    training: list[tuple[str, Picture]]
    settings: list[tuple[str, str]]
    seed_note: str


def groups(of_cards: list[tuple[str, Card]]) -> list[Group]:
    """Cards by why they were chosen, as they come."""
    titles = list(dict.fromkeys(title for title, _ in of_cards))
    return [Group(title, WHY[title], [card for other, card in of_cards if other == title]) for title in titles]


def html(page: Page) -> str:
    """The page as HTML, every text in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content: dict[str, Any] = page._asdict()
    return environment.get_template(TEMPLATE).render(**content, unfolded=_OPEN, version=__version__)
