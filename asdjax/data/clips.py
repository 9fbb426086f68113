"""Clip and Corpus: the one table that every layout yields."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from asdjax.runtime.paths import composed

Domain = Literal["source", "target"]
Split = Literal["train", "test"]
Label = Literal["normal", "anomaly"]
Layout = Literal["dcase2020", "dcase2021", "dcase2022", "manifest"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what its folder, name or table row says of it.

    `domain` and `label` are None where nothing says. A `blind` test clip is one of an evaluation set: its name (or
    table row) tells no label, and a label that it has all the same comes from the organisers' truth. From 2022 on a
    test clip's domain and attributes stand in its name for judging only: they are no inputs to a score. `row` says
    where a table lists it, such as "manifest.csv line 3", and is no part of what the clip is.
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
        """Its path, and where a table lists it, as what."""
        listed = f" ({self.row}: {self.machine} {self.section}, {self.split})" if self.row else ""
        return f"{self.path}{listed}"

    @property
    def name(self) -> str:
        """The base name in composed form, the key by which score files refer to the clip.

        In a challenge's layout it ends in .wav.
        """
        return composed(self.alias or self.path.name)


@dataclass(frozen=True, slots=True)
class Corpus:
    """All clips under one or several roots, sorted by machine, split (train first), section, domain, name."""

    layout: Layout
    clips: tuple[Clip, ...]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types, sorted."""
        return tuple(sorted({clip.machine for clip in self.clips}))

    def select(
        self,
        *,
        machine: str | None = None,
        section: str | None = None,
        split: Split | None = None,
        domain: Domain | None = None,
    ) -> tuple[Clip, ...]:
        """The clips that agree with every field given, in the corpus's order."""
        wanted = {"machine": machine, "section": section, "split": split, "domain": domain}
        given = {field: value for field, value in wanted.items() if value is not None}
        return tuple(c for c in self.clips if all(getattr(c, f) == v for f, v in given.items()))
