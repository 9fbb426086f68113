"""The HTML page: one file without scripts or links to other files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2

from asdjax import __version__
from asdjax.report.cards import Card
from asdjax.report.clip_selection import REASONS
from asdjax.report.figures import Picture
from asdjax.report.report_tables import DecisionCounts, ReportTable
from asdjax.report.sections import MachineSection
from asdjax.report.strange_clips import StrangeCard

TEMPLATE = "report.html.jinja"
_MOST_UNFOLDED = 3  # with more machine types, only the first is unfolded


class CardGroup(NamedTuple):
    """Clips that are explained for the same reason."""

    title: str
    reason: str
    cards: list[Card]


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """Content of the page. The template escapes all texts."""

    title: str
    headline: str
    warnings: list[str]
    facts: list[tuple[str, str]]
    counts: DecisionCounts
    official: str | None
    interval: str | None
    systems: ReportTable | None
    machines: list[MachineSection]
    thresholds: ReportTable
    groups: list[CardGroup]
    strange: list[StrangeCard]
    training: list[tuple[str, Picture]]
    settings: list[tuple[str, str]]
    seed_note: str


def group_cards(cards: Sequence[tuple[str, Card]]) -> list[CardGroup]:
    """Group cards, given with the title of their group, in order of first appearance."""
    titles = list(dict.fromkeys(title for title, _ in cards))
    return [CardGroup(title, REASONS[title], [card for other, card in cards if other == title]) for title in titles]


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(**vars(page), most_unfolded=_MOST_UNFOLDED, version=__version__)
