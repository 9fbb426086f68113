"""Text tables for terminals: aligned columns, fields with a name, and notes below a table."""

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 80
_NARROWEST = 20  # notes are wrapped at no fewer characters


def format_table(
    rows: Iterable[Sequence[str]], width: int = WIDTH, *, left: int = 1, gap: int = 2, together: int = 0, label: int = 0
) -> str:
    """Return rows of texts as aligned columns.

    Columns that do not fit next to each other continue in a further block below, which repeats the first column.

    Args:
        rows: texts of equal number, with the headings among them. An empty row is an empty line.
        width: characters per line. Only a pair of columns that is wider exceeds it.
        left: number of columns aligned left; the others are aligned right.
        gap: spaces between columns.
        together: number of last columns that stay in one block, if they fit there next to the first column.
        label: least width to which the first column is shortened before blocks are made; 0 leaves it as it is.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*filter(None, rows), strict=True)]
    if label:
        excess = sum(widths) + gap * (len(widths) - 1) - width
        widths[0] = min(widths[0], max(widths[0] - excess, label))
    blocks = []
    for columns in _split_columns([size + gap for size in widths], width + gap, together):
        lines = [[_pad(row[i], widths[i], i < left) for i in columns] if row else [] for row in rows]
        blocks.append("\n".join((" " * gap).join(texts).rstrip() for texts in lines))
    return "\n\n".join(blocks)


def _split_columns(sizes: Sequence[int], width: int, together: int) -> list[list[int]]:
    """Split column numbers into blocks of at most `width` characters, each beginning with column 0."""
    blocks, used = [[0]], sizes[0]
    first_together = len(sizes) - together
    size_together = sum(sizes[first_together:])
    for i, size in enumerate(sizes[1:], start=1):
        keeps = i == first_together and used + size_together > width >= sizes[0] + size_together
        if len(blocks[-1]) > 1 and (keeps or used + size > width):
            blocks.append([0])
            used = sizes[0]
        blocks[-1].append(i)
        used += size
    return blocks


def _pad(text: str, width: int, is_left: bool) -> str:
    return cut(text, width).ljust(width) if is_left else cut(text, width).rjust(width)


def cut(text: str, width: int) -> str:
    """Return a text with its end replaced by … if it is longer than `width` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def format_fields(fields: Sequence[tuple[str, str]], width: int = WIDTH) -> str:
    """Return each name with its text, wrapped at `width` characters and indented behind the longest name."""
    indent = 2 + max((len(name) for name, _ in fields), default=0)
    return "\n".join(
        textwrap.fill(text, width, initial_indent=name.ljust(indent), subsequent_indent=" " * indent)
        for name, text in fields
    )


def format_notes(notes: Iterable[str], width: int = WIDTH) -> str:
    """Return each note wrapped at `width` characters, its further lines indented."""
    return "\n".join(textwrap.fill(note, max(width, _NARROWEST), subsequent_indent="  ") for note in notes)
