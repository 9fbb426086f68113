"""Table of all fields in Markdown, for configs/README.md.

`uv run python -m asdjax.config.field_table configs/README.md` replaces the table in that file.
"""

import sys
from pathlib import Path

from asdjax.config.field_spec import FieldSpec
from asdjax.config.fields import FIELDS

HEADER = "| field | default | unit | meaning | rule | source |"


def format_table() -> str:
    """Return the table, one row per field in the order of declaration, with a newline at its end."""
    rows = [_format_row(name, spec) for name, spec in FIELDS.items()]
    return "\n".join([HEADER, "|---|---|---|---|---|---|", *rows, ""])


def _format_row(name: str, spec: FieldSpec) -> str:
    default = ", ".join(map(str, spec.default)) if isinstance(spec.default, tuple) else str(spec.default)
    cells = (f"`{name}`", default and f"`{default}`", spec.unit, spec.meaning, spec.describe_rule(), spec.source)
    return f"| {' | '.join(cell.replace('|', '\\|') for cell in cells)} |"


def replace_table(text: str) -> str:
    """Return a README's text with everything from its table's header on replaced by the present table."""
    return text.partition(HEADER)[0] + format_table()


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(replace_table(readme.read_text()))
