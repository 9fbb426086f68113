"""Scores of clips by the selected models of a run, with the embeddings that are stored for them, and by baselines."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips, Stores, read_recordings
from asdjax.data.clips import Corpus
from asdjax.data.tasks import Task
from asdjax.evaluation.baselines import score_baselines, stored_autoencoders, stored_statistics
from asdjax.evaluation.checkpoint_selection import SelectedCheckpoint
from asdjax.evaluation.model_scores import ModelScores
from asdjax.fleet import embed, fleet_model
from asdjax.fleet.runs import Run
from asdjax.inference import clip_scores, stored_embeddings
from asdjax.inference.bank import Scoring
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.loaded_evaluation import restore_model
from asdjax.runtime import hardware
from asdjax.runtime.progress import track

#: A task's training clips, "bank", and its test clips, "test".
TaskClips = Mapping[str, RecordedClips]


def read_clips(stores: Stores, corpus: Corpus, task: Task, split: str, accepted: RecordedClips) -> TaskClips:
    """Return a task's training clips and test clips, whose samples are read from the disk when they are used.

    The training clips are followed by those of the `accepted` ones that are of its sections. The labelled test clips
    rank models, so they are read for both splits; the split "eval" adds the others.
    """
    sections = {(clip.machine, clip.section) for clip in task.clips}
    of_task = accepted.select(lambda clip: (clip.machine, clip.section) in sections)
    wanted = [clip for clip in corpus.select(split="test") if split == "eval" or not clip.blind]
    test = [clip for clip in wanted if clip.machine in task.machines]
    return {
        "bank": RecordedClips(
            [*task.clips, *of_task.clips], [*read_recordings(stores, task.clips), *of_task.recordings]
        ),
        "test": RecordedClips(test, read_recordings(stores, test)),
    }


def score_run(
    config: Config, run: Run, selected: Sequence[SelectedCheckpoint], recorded: TaskClips, folder: Path
) -> None:
    """Embed and score a run's clips by each selected model, and store both in `folder`/<line>."""
    spec = fleet_model.make_spec(config, len(run.task.classes))
    scoring = Scoring.from_config(config)
    for checkpoint in selected:
        name = f"{run.name} {checkpoint.line}"
        model = restore_model(spec, run.folder / checkpoint.line, checkpoint.step, checkpoint.digest)
        with hardware.explaining_full_memory(name, "lower config.evaluate.batch_size"):
            embedded = {
                part: embed.embed_clips(
                    spec,
                    model,
                    clips.samples,
                    stride_frames=config.evaluate.stride_frames,
                    batch_size=config.evaluate.batch_size,
                    what=f"{name} {part}",
                )
                for part, clips in recorded.items()
            }
        by_variant = {
            variant: clip_scores.score_by_banks(
                recorded["bank"].clips, embedded["bank"], recorded["test"].clips, embedded["test"], variant, scoring
            )
            for variant in track(spec.variants, f"{name} score", len(spec.variants), "model")
        }
        stored_embeddings.save(folder / checkpoint.line, recorded, embedded, by_variant)


def read_scores(
    config: Config, run: Run, selected: Sequence[SelectedCheckpoint], folder: Path
) -> dict[str, dict[str, ClipScores]]:
    """Return what `score_run` has stored in `folder`, by machine type and model."""
    scores: dict[str, dict[str, ClipScores]] = {machine: {} for machine in run.task.machines}
    for checkpoint in selected:
        stored = stored_embeddings.load_scores(folder / checkpoint.line, config.variants)
        for variant, of_variant in stored.items():
            for machine in run.task.machines:
                scores[machine][variant + checkpoint.suffix] = of_variant.select_machine(machine)
    return scores


def score_each_baseline(
    config: Config, workdir: Path, recorded: Iterable[TaskClips], names: Sequence[str], folder: Path | None = None
) -> ModelScores:
    """Score the clips of each machine type by the named baselines, which do not depend on the seeds of the fleets.

    Statistics and scores of the simple detectors are stored in `folder`/<machine type>, if a folder is given.
    """
    return {
        machine: score_baselines.score_machine(
            config,
            machine,
            {part: of_part.of_machine(machine) for part, of_part in clips.items()},
            _locate_baselines(workdir, machine),
            names,
            folder and folder / machine,
        )
        for clips in recorded
        for machine in sorted({clip.machine for clip in clips["bank"].clips})
    }


def are_baselines_stored(config: Config, workdir: Path, clips: TaskClips, names: Sequence[str]) -> bool:
    """Return whether the named baselines have nothing to compute from the recordings of a task."""
    if not set(names) <= set(score_baselines.ALWAYS):
        return False
    rate = config.signal.sample_rate_hz
    return all(
        stored_statistics.are_stored(_locate_baselines(workdir, machine), part.of_machine(machine).recordings, rate)
        for part in clips.values()
        for machine in {clip.machine for clip in part.clips}
    )


def _locate_baselines(workdir: Path, machine: str) -> Path:
    return workdir / "evaluation" / stored_autoencoders.FOLDER / machine
