"""Table of clips: the same for every layout."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from asdjax.runtime.paths import compose

Domain = Literal["source", "target"]
Split = Literal["train", "test"]
Label = Literal["normal", "anomaly"]
Layout = Literal["dcase2020", "dcase2021", "dcase2022", "manifest"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, described by its folder, its name or its row in a table.

    Attributes
    ----------
    path, machine, section, split
        File, machine type, section, and "train" or "test".
    domain, label
        None if unknown.
    attributes
        Pairs of name and value. From 2022 on, domain and attributes of a test clip are for evaluation only; no score
        uses them.
    blind
        True for a test clip of an evaluation set. Its name or row has no label; the organisers' truth may add one.
    row
        Place in a table, such as "manifest.csv line 3". It does not count in comparisons.
    alias
        Name in the challenge's tables if it differs from the file's name. It does not count in comparisons.
    """

    path: Path
    machine: str
    section: str
    split: Split
    domain: Domain | None
    label: Label | None
    attributes: tuple[tuple[str, str], ...] = ()
    blind: bool = False
    row: str = field(default="", compare=False)
    alias: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """Return the path for messages, with the table row and its contents if there is one."""
        listed = f" ({self.row}: {self.machine} {self.section}, {self.split})" if self.row else ""
        return f"{self.path}{listed}"

    @property
    def name(self) -> str:
        """Return the base name in composed form, which score files use. It ends in .wav in a challenge's layout."""
        return compose(self.alias or self.path.name)


class Unparsed(NamedTuple):
    """A recording or table row that gives no clip: its place, the reason, and its machine type ("" if unknown)."""

    where: str
    why: str
    machine: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """All clips under one or more roots, sorted by machine type, split (train first), section, domain and name."""

    layout: Layout
    clips: tuple[Clip, ...]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def machines(self) -> tuple[str, ...]:
        """Return the machine types, sorted."""
        return tuple(sorted({clip.machine for clip in self.clips}))

    def select(
        self,
        *,
        machine: str | None = None,
        section: str | None = None,
        split: Split | None = None,
        domain: Domain | None = None,
    ) -> tuple[Clip, ...]:
        """Return the clips that match every given field, in the order of the corpus."""
        fields = {"machine": machine, "section": section, "split": split, "domain": domain}
        given = {name: value for name, value in fields.items() if value is not None}
        return tuple(clip for clip in self.clips if all(getattr(clip, name) == value for name, value in given.items()))
