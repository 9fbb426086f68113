"""Training tasks: the machine types, classes and training clips of each fleet."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from asdjax.data.clips import Clip, Corpus
from asdjax.errors import InputError

#: Name of the single task in which all machine types share a fleet.
TOGETHER = "all"

#: Names in a work directory that are not tasks.
RESERVED = ("store", "evaluation", "feedback", "config.json", "runs.json")

#: Characters that cannot be in the path of a checkpoint, because Orbax reads them as glob patterns.
UNSAVABLE = frozenset("*?[")

#: Fewest training clips of a machine type without models: the simple detectors have no scale with fewer.
FEWEST_WITHOUT_MODELS = 4

Class = tuple[str, ...]


def _by_section(clip: Clip) -> Class:
    return clip.machine, clip.section


def _by_attributes(clip: Clip) -> Class:
    return clip.machine, clip.section, ";".join(f"{key}={value}" for key, value in clip.attributes)


#: Function that returns a clip's class, for each value of config.data.classes except "auto".
CLASSES: dict[str, Callable[[Clip], Class]] = {
    "section": _by_section,
    "machine_section": _by_section,
    "machine_section_attributes": _by_attributes,
}


@dataclass(frozen=True, slots=True)
class Task:
    """Training data of one fleet: n clips in k classes.

    Attributes
    ----------
    name, machines
        Name of the fleet's folder, and its machine types.
    classes
        The k classes, sorted: (machine type, section) or (machine type, section, attributes).
    clips
        The n training clips.
    class_of_clip
        For each clip, the index of its class.
    section_of_class
        For each class, the index of its (machine type, section).
    """

    name: str
    machines: tuple[str, ...]
    classes: tuple[Class, ...]
    clips: tuple[Clip, ...]
    class_of_clip: tuple[int, ...]
    section_of_class: tuple[int, ...]

    @property
    def source_clips(self) -> int:
        """Return the number of training clips of the source domain, which is the number of pieces in an epoch."""
        return sum(clip.domain != "target" for clip in self.clips)

    @property
    def has_models(self) -> bool:
        """Return whether models can be trained: they learn to separate two classes or more with source clips."""
        return len(self._find_trained_classes()) >= 2

    def explain_no_models(self) -> tuple[str, str]:
        """Return why there are no models and what happens without them, and what to do."""
        names = [" ".join(filter(None, self.classes[index])) for index in sorted(self._find_trained_classes())]
        got = f"only {names[0]} has" if names else "no class has"
        return (
            f"no models of {', '.join(self.machines)}, only the simple detectors: models learn to separate classes, "
            f"and {got} source training clips",
            "for models add a second section, or give the clips attributes and set "
            "config.data.classes=machine_section_attributes, or have machine types share models by machine_section",
        )

    def _find_trained_classes(self) -> set[int]:
        by_clip = zip(self.clips, self.class_of_clip, strict=True)
        return {index for clip, index in by_clip if clip.domain != "target"}


class Division(NamedTuple):
    """The tasks of a corpus, and the error of each machine type that cannot have one."""

    tasks: tuple[Task, ...]
    refused: dict[str, InputError]


def make_tasks(corpus: Corpus, classes: str) -> tuple[Task, ...]:
    """Divide the training clips of a corpus into tasks; raise InputError also for one machine type of several.

    See `divide`.
    """
    tasks, refused = divide(corpus, classes)
    for error in refused.values():
        raise error
    return tasks


def divide(corpus: Corpus, classes: str) -> Division:
    """Divide the training clips of a corpus into tasks.

    `classes` is "section" for a task per machine type with its sections as classes. It is "machine_section" or
    "machine_section_attributes" for one task over all machine types. "auto" means "section" if every machine type has
    at least two sections. Otherwise it means the first of the other two that gives two classes.

    A task is refused if it has a training clip that is labelled anomaly, a machine type whose name cannot name a run's
    folder, or neither two classes nor enough clips for the simple detectors. Raises InputError if there are no training
    clips, or if the refused task is that of all machine types.
    """
    by_machine: dict[str, list[Clip]] = {}
    for clip in corpus.select(split="train"):
        by_machine.setdefault(clip.machine, []).append(clip)
    if not by_machine:
        raise InputError("config.data.root: expected training clips, got none; check that it has a `train` folder")
    every = [clip for clips in by_machine.values() for clip in clips]
    if classes == "auto":
        classes = choose_classes(every)
    if classes != "section":
        return Division((_make_task(TOGETHER, every, classes),), {})
    tasks, refused = [], {}
    for machine in sorted(by_machine):
        try:
            tasks.append(_make_task(machine, by_machine[machine], "section"))
        except InputError as error:
            refused[machine] = error
    return Division(tuple(tasks), refused)


def hold_out(task: Task, fraction: float) -> tuple[Task, Task]:
    """Split a task into the clips to train on and the held-out clips.

    Of each class and domain, `fraction` of the clips is held out, rounded down, but none of a task without models. The
    choice depends only on the clips' names.

    Raises InputError if `fraction` is above 0 but less than one clip of every class and domain.
    """
    fraction = fraction if task.has_models else 0.0
    cells: dict[tuple[int, bool], list[int]] = {}
    for i, (clip, class_index) in enumerate(zip(task.clips, task.class_of_clip, strict=True)):
        cells.setdefault((class_index, clip.domain == "target"), []).append(i)
    held_out = {
        i
        for cell in cells.values()
        for i in sorted(cell, key=lambda i: _draw_key(task.clips[i]))[: _round_down(fraction, len(cell))]
    }
    if fraction and not held_out:
        raise InputError(
            f"config.train.holdout_fraction: expected one clip or more of a section of task {task.name}, got "
            f"{fraction} of {max(map(len, cells.values()))}, the largest; give more, or 0"
        )
    kept = [i for i in range(len(task.clips)) if i not in held_out]
    return _select_clips(task, kept), _select_clips(task, sorted(held_out))


def _round_down(fraction: float, number: int) -> int:
    """Return fraction * number, rounded down. Decimals avoid 0.29 * 100 = 28.999999999999996."""
    return int(Decimal(str(fraction)) * number)


def _draw_key(clip: Clip) -> bytes:
    return hashlib.sha256("/".join((clip.machine, clip.section, clip.name)).encode()).digest()


def _select_clips(task: Task, indices: Sequence[int]) -> Task:
    return replace(
        task,
        clips=tuple(task.clips[i] for i in indices),
        class_of_clip=tuple(task.class_of_clip[i] for i in indices),
    )


def choose_classes(clips: Sequence[Clip]) -> str:
    """Return the value of config.data.classes that "auto" means for these training clips."""
    sections: dict[str, set[str]] = {}
    for clip in clips:
        sections.setdefault(clip.machine, set()).add(clip.section)
    if all(len(machine_sections) >= 2 for machine_sections in sections.values()):
        return "section"
    if sum(map(len, sections.values())) >= 2:
        return "machine_section"
    return "machine_section_attributes"


def _make_task(name: str, clips: Sequence[Clip], classes: str) -> Task:
    _check_name(name)
    _require_normal(clips)
    class_of = CLASSES[classes]
    names = sorted({class_of(clip) for clip in clips})
    sections = sorted({class_name[:2] for class_name in names})
    task = Task(
        name=name,
        machines=tuple(sorted({clip.machine for clip in clips})),
        classes=tuple(names),
        clips=tuple(clips),
        class_of_clip=tuple(names.index(class_of(clip)) for clip in clips),
        section_of_class=tuple(sections.index(class_name[:2]) for class_name in names),
    )
    _require_enough(task)
    return task


def _require_enough(task: Task) -> None:
    """Raise InputError for a machine type without models and with too few clips for the simple detectors."""
    numbers = Counter(clip.machine for clip in task.clips)
    few = [machine for machine in task.machines if numbers[machine] < FEWEST_WITHOUT_MODELS]
    if few and not task.has_models:
        raise InputError(
            f"config.data.root: expected two classes or more with source training clips, or {FEWEST_WITHOUT_MODELS} "
            f"training clips or more for the simple detectors alone, got {numbers[few[0]]} of {few[0]}; add normal "
            "recordings"
        )


def _check_name(name: str) -> None:
    if name in RESERVED:
        raise InputError(
            f"config.data.root: a machine type cannot be called {name}: every work directory uses that name for "
            "something else; rename it"
        )
    if UNSAVABLE & set(name):
        raise InputError(
            f"config.data.root: a machine type cannot be called {name}: its checkpoints could not be saved, because "
            "Orbax reads * ? [ as patterns; rename it"
        )


def _require_normal(clips: Sequence[Clip]) -> None:
    for clip in clips:
        if clip.label == "anomaly":
            raise InputError(
                f"{clip.path}: expected normal training clips only, got one labelled anomaly; move it to the test split"
            )
