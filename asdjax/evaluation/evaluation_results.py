"""Results of an evaluation as the Python API returns them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asdjax.evaluation import summary
from asdjax.evaluation.results import Results


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """The figures of one system, as fractions; None where undefined.

    official: official score of the year. interval: its 95 % interval over test clips. selection: "none",
    "held-out normals" or "labelled test". cells: a dict per machine type, section and domain, as in results.json.
    """

    official: float | None
    interval: tuple[float, float] | None
    selection: str
    cells: list[dict[str, Any]]


class NamedSystems(dict[str, SystemResult]):
    """Systems by name; a KeyError for another name lists those that there are."""

    def __missing__(self, name: str) -> SystemResult:
        """Raise KeyError."""
        raise KeyError(f"no system {name!r} in this evaluation, which has {', '.join(self)}")


@dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """The results of an evaluation.

    folder: where its files are. systems: each system's figures by name. content: all that results.json holds.
    report_removed: whether the report of an earlier evaluation was removed.
    """

    folder: Path
    systems: NamedSystems
    content: dict[str, Any]
    report_removed: bool

    @property
    def table(self) -> str:
        """Return the summary of table.md: the table of all systems, the faults found, and the warnings."""
        return summary.as_markdown(self.content)

    @property
    def warnings(self) -> list[str]:
        """Return the signs that the detectors may not be trusted, a line each, with what to do."""
        return summary.list_warnings(self.content)


def describe(written: Results) -> EvaluationResults:
    """Return what an evaluation has written, with the figures of results.json."""
    systems = {
        name: SystemResult(
            official=system["official"],
            interval=system["interval"] and tuple(system["interval"]),
            selection=system["selection"],
            cells=system["cells"],
        )
        for name, system in written.content["systems"].items()
    }
    return EvaluationResults(
        folder=written.folder,
        systems=NamedSystems(systems),
        content=written.content,
        report_removed=written.report_removed,
    )
