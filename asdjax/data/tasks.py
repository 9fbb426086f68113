"""What is trained together: a task is one fleet's machine types, classes and training clips."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from asdjax.data.clips import Clip, Corpus
from asdjax.errors import InputError

TOGETHER = "all"
"""The name of the one task in which all machine types share a fleet."""

RESERVED = ("store", "evaluation", "config.json")
"""What else a work directory holds besides a folder for each task."""

UNSAVABLE = frozenset("*?[")
"""Not in the path of a checkpoint: Orbax looks for what it has just written by patterns."""

Class = tuple[str, ...]


def _by_section(clip: Clip) -> Class:
    return clip.machine, clip.section


def _by_attributes(clip: Clip) -> Class:
    return clip.machine, clip.section, ";".join(f"{key}={value}" for key, value in clip.attributes)


CLASSES: dict[str, Callable[[Clip], Class]] = {
    "section": _by_section,
    "machine_section": _by_section,
    "machine_section_attributes": _by_attributes,
}


@dataclass(frozen=True, slots=True)
class Task:
    """One fleet's work: n training clips in k classes.

    class_of_clip[i] is the class of clips[i]; section_of_class[j] numbers the (machine type, section) that
    classes[j] belongs to.
    """

    name: str
    machines: tuple[str, ...]
    classes: tuple[Class, ...]
    clips: tuple[Clip, ...]
    class_of_clip: tuple[int, ...]
    section_of_class: tuple[int, ...]

    @property
    def source_clips(self) -> int:
        """Training clips of the source domain: the pieces in an epoch."""
        return sum(clip.domain != "target" for clip in self.clips)


def make_tasks(corpus: Corpus, classes: str) -> tuple[Task, ...]:
    """The tasks of a corpus.

    `section`: a task per machine type, classes are its sections. `machine_section` and
    `machine_section_attributes`: one task over all machine types. `auto`: the first where every machine type has
    two sections or more, else the first of the others that gives two classes.

    Raises InputError where a task would have fewer than two classes with source clips: there is nothing to tell
    apart then; and for a machine type whose name a work directory has another use for.
    """
    clips = _training_clips(corpus)
    if classes == "auto":
        classes = _choose(clips)
    if classes == "section":
        machines = sorted({clip.machine for clip in clips})
        return tuple(_task(machine, [c for c in clips if c.machine == machine], "section") for machine in machines)
    return (_task(TOGETHER, clips, classes),)


def hold_out(task: Task, fraction: float) -> tuple[Task, Task]:
    """A task with what it trains on, and with what is held out: of each class and domain so many of its clips, rounded
    down, chosen by their names alone.

    Raises InputError where a fraction above 0 is less than a clip everywhere.
    """
    cells: dict[tuple[int, bool], list[int]] = {}
    for i, (clip, klass) in enumerate(zip(task.clips, task.class_of_clip, strict=True)):
        cells.setdefault((klass, clip.domain == "target"), []).append(i)
    held = {
        i
        for cell in cells.values()
        for i in sorted(cell, key=lambda i: _lot(task.clips[i]))[: _share(fraction, len(cell))]
    }
    if fraction and not held:
        raise InputError(
            f"config.train.holdout_fraction: {fraction} is not one clip of any section of task {task.name}, the "
            f"largest of which has {max(map(len, cells.values()))}; give more, or 0"
        )
    return _part(task, [i for i in range(len(task.clips)) if i not in held]), _part(task, sorted(held))


def _share(fraction: float, number: int) -> int:
    """So much of a number, rounded down as in decimals: 0.29 of 100 are 29, where floats say 28.999999999999996."""
    return int(Decimal(str(fraction)) * number)


def _lot(clip: Clip) -> bytes:
    return hashlib.sha256("/".join((clip.machine, clip.section, clip.name)).encode()).digest()


def _part(task: Task, numbers: Sequence[int]) -> Task:
    clips, classes = ([of_clip[i] for i in numbers] for of_clip in (task.clips, task.class_of_clip))
    return replace(task, clips=tuple(clips), class_of_clip=tuple(classes))


def _training_clips(corpus: Corpus) -> list[Clip]:
    clips = [clip for clip in corpus if clip.split == "train"]
    for clip in clips:
        if clip.label == "anomaly":
            raise InputError(
                f"{clip.path}: expected normal training clips only, got one labelled anomaly; move it to the test split"
            )
    if not clips:
        raise InputError("config.data.root: expected training clips, found none; is there a `train` folder?")
    return clips


def _choose(clips: Sequence[Clip]) -> str:
    sections: dict[str, set[str]] = {}
    for clip in clips:
        sections.setdefault(clip.machine, set()).add(clip.section)
    if all(len(of_machine) >= 2 for of_machine in sections.values()):
        return "section"
    if sum(map(len, sections.values())) >= 2:
        return "machine_section"
    return "machine_section_attributes"


def _task(name: str, clips: Sequence[Clip], kind: str) -> Task:
    if name in RESERVED:
        raise InputError(
            f"config.data.root: a machine type cannot be called {name}, which means something else in every work "
            "directory; rename it"
        )
    if UNSAVABLE & set(name):
        raise InputError(
            f"config.data.root: a machine type cannot be called {name}: its checkpoints lie in a folder of that name, "
            "and Orbax, which saves them, takes * ? [ for patterns; rename it"
        )
    class_of = CLASSES[kind]
    classes = sorted({class_of(clip) for clip in clips})
    sections = sorted({klass[:2] for klass in classes})
    _require_two_classes(name, clips, class_of)
    return Task(
        name=name,
        machines=tuple(sorted({clip.machine for clip in clips})),
        classes=tuple(classes),
        clips=tuple(clips),
        class_of_clip=tuple(classes.index(class_of(clip)) for clip in clips),
        section_of_class=tuple(sections.index(klass[:2]) for klass in classes),
    )


def _require_two_classes(name: str, clips: Sequence[Clip], class_of: Callable[[Clip], Class]) -> None:
    with_source = {class_of(clip) for clip in clips if clip.domain != "target"}
    if len(with_source) < 2:
        found = ", ".join(" ".join(filter(None, klass)) for klass in sorted(with_source)) or "none"
        raise InputError(
            f"config.data.root: task {name} needs at least two classes with source training clips to tell apart, "
            f"found {len(with_source)} ({found}); add a second section or machine type, or give the clips "
            "attributes and set --config.data.classes=machine_section_attributes"
        )
