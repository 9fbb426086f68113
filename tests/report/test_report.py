"""`asdjax report`: one complete, harmless file, equal bytes for equal input, and its error messages."""

import base64
import csv
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import shallow_networks, train_tiny

from asdjax.cli.main import main
from asdjax.report import build_report

pytestmark = pytest.mark.usefixtures("shallow")

MACHINE = '"><img src=x onerror=alert(1)>'
SECTIONS = ("<script>alert(1)<script>", "$x^{é中🔧")
NAME = "=cmd()|'<svg onload=alert(1)>&amp;{}.wav"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags and text of a page, as a browser parses it. Tags must be nested correctly."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def players(self) -> list[str]:
        return [str(player["src"]) for player in self.all("audio")]


def report(workdir: Path, *words: str) -> int:
    return main(["report", "--workdir", str(workdir), *words])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def page_of(workdir: Path, split: str = "dev") -> Page:
    return Page((workdir / "evaluation" / split / "report.html").read_text(encoding="utf-8"))


def require_harmless(workdir: Path, split: str = "dev") -> None:
    """Assert that nothing in the page runs or is fetched."""
    html = (workdir / "evaluation" / split / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "http:" not in html
    assert "https:" not in html
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in str(page.all("meta")[1]["content"])
    assert all(image["alt"] for image in page.all("img"))
    assert not re.search(r"url\(|@import", html)


@pytest.fixture(scope="module")
def reported(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained and evaluated work directory with its report. Tests only read it."""
    workdir = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("reported") / "run"))
    with shallow_networks():
        assert report(workdir, "--clips", "2") == 0
    return workdir


@pytest.fixture(scope="module")
def hostile(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a work directory with attacks as names and with test clips of unknown label."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [["path", "machine", "section", "domain", "split", "label", "attributes"]]
    for i, path in enumerate(sorted(corpus.rglob("*.wav"))):
        _, section, domain, split, *_ = path.stem.split("_")
        name = NAME.format(i)
        shutil.copy(path, folder / name)
        label = "normal" if split == "train" else ""
        rows.append([name, MACHINE, SECTIONS[int(section)], domain, split, label, ""])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    workdir = tmp_path_factory.mktemp("hostile-run") / "run"
    with shallow_networks():
        assert train_tiny(folder, workdir) == 0
        assert main(["evaluate", "--workdir", str(workdir), "--split", "eval"]) == 0
        assert report(workdir, "--clips", "1") == 0
    return workdir


def test_it_is_one_file_and_nothing_else_changes(reported: Path, trained_once: Path):
    before, after = contents(trained_once), contents(reported)
    assert after.keys() - before.keys() == {"evaluation/dev/report.html"}
    assert {name: after[name] for name in before} == before


def test_it_opens_no_connection_runs_nothing_and_describes_every_picture(reported: Path):
    require_harmless(reported)
    page = page_of(reported)
    shown = [str(image["alt"]) for image in page.all("img")]
    for name in ("ROC of fan", "Histograms of the scores of fan", "Map of embeddings of fan", "Training curves of fan"):
        assert any(alt.startswith(name) for alt in shown)
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.all("img") if image["src"])


def test_figures_are_those_of_the_evaluation(reported: Path):
    text = " ".join(page_of(reported).text.split())
    results = json.loads((reported / "evaluation" / "dev" / "results.json").read_text())
    system = results["systems"]["all_mean"]
    low, high = (f"{100 * end:.2f}" for end in system["interval"])
    assert f"an official score of {100 * system['official']:.2f} of 100 (95 % interval {low}–{high})" in text
    assert "No test label was used to choose anything in it." in text
    assert "best_single*" in text
    assert "* models chosen by labelled test data: an upper bound, not a result." in text
    assert "phase2_full at step 3 (fan)" in text
    for cell in system["cells"]:
        assert f"{100 * cell['auc']:.2f}" in text
    (limit,) = system["thresholds"]
    assert f"{limit['value']:.4g}" in text
    assert f"{100 * limit['false_alarms']:.2f}" in text


def test_two_players_a_clip_play_the_recordings(reported: Path, corpus: Path):
    page = page_of(reported)
    results = json.loads((reported / "evaluation" / "dev" / "results.json").read_text())
    strange = [Path(clip["path"]).name for clip in results["training_clips"]["fan"] if clip["excess"] > 0][:2]
    assert strange
    assert all(name in page.text for name in strange)
    assert len(page.all("article")) == 6 + len(strange)
    recordings = [soundfile.read(path, dtype="int16")[0] for path in corpus.rglob("*.wav")]
    players = page.players()
    assert len(players) == 2 * 6 + len(strange)
    for uri in players:
        kind, content = uri.split(",", 1)
        assert kind == "data:audio/wav;base64"
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="int16")
        assert rate_hz == 16_000
        assert any(np.array_equal(samples, recording) for recording in recordings)


@pytest.mark.slow
def test_two_reports_are_equal_byte_for_byte(reported: Path, tmp_path: Path):
    workdir = Path(shutil.copytree(reported, tmp_path / "elsewhere"))
    path = workdir / "evaluation" / "dev" / "report.html"
    before = path.read_bytes()
    path.unlink()
    assert report(workdir, "--clips", "2", "--split", "dev") == 0
    assert path.read_bytes() == before


def test_names_that_are_attacks_are_only_text(hostile: Path):
    require_harmless(hostile, "eval")
    page = page_of(hostile, "eval")
    assert MACHINE in page.text
    assert any(section in page.text for section in SECTIONS)  # the section of the only explained clip
    assert NAME.split("{")[0] in page.text


def test_clips_of_unknown_label_have_scores_thresholds_and_decisions_but_no_figures(hostile: Path):
    page = page_of(hostile, "eval")
    text = " ".join(page.text.split())
    assert "scored 24 clips whose labels are not known" in text
    assert "clips called anomalous" in text
    assert "official score of" not in text
    assert "faults found" not in text
    assert "90th percentile" in text
    assert len(page.all("article")) == 2  # the most anomalous test clip and the strangest training clip
    assert not any(str(image["alt"]).startswith("ROC") for image in page.all("img"))


def test_the_recordings_and_the_models_may_be_gone_where_no_clip_is_explained(trained: Path):
    shutil.rmtree(trained / "store")
    shutil.rmtree(trained / "fan" / "phase2_full")
    assert report(trained, "--clips", "0") == 0
    assert page_of(trained).players() == []


def refusal(workdir: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a report that fails, assert that it writes nothing, and return its last line of stderr."""
    before = contents(workdir)
    capsys.readouterr()
    assert report(workdir, *words) == 2
    assert contents(workdir) == before
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["--split", "dev"], ["--split", "eval"]])
def test_without_an_evaluation_it_says_what_to_do(words: list[str], trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "evaluation")
    assert "expected an evaluation, got none; run asdjax evaluate --workdir" in refusal(trained, capsys, *words)


@pytest.mark.parametrize("field", ["evaluate.k", "baselines.epochs", "data.root"])
def test_what_the_evaluation_has_settled_cannot_be_told(field: str, trained: Path, capsys: pytest.CaptureFixture[str]):
    assert f"config.{field}: expected a field that may change here (data.store" in refusal(
        trained, capsys, f"--config.{field}=3"
    )


def test_a_judged_checkpoint_that_is_gone_is_named(trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "fan" / "phase2_full" / "3")
    assert "and then asdjax evaluate, or asdjax report with --clips 0" in refusal(trained, capsys)


def test_sound_that_is_gone_is_named(trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "store")
    assert "run asdjax evaluate again" in refusal(trained, capsys)


@pytest.mark.parametrize("file", ["results.json", "clips/all_mean.csv", "embeddings/fan/phase2_full/clips.json"])
def test_a_damaged_evaluation_is_refused(file: str, trained: Path, capsys: pytest.CaptureFixture[str]):
    (trained / "evaluation" / "dev" / file).write_text("{}")
    assert "run asdjax evaluate again" in refusal(trained, capsys)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_explained(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def explain_nothing(*_: object) -> None:
        raise AssertionError("minutes of work for nothing")

    folder = trained / "evaluation" / "dev"
    monkeypatch.setattr(build_report, "_explain", explain_nothing)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != folder)
    assert report(trained) == 2
    assert f"{folder}: Permission denied; allow reading and writing there" in capsys.readouterr().err
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert report(trained) == 2
    assert f"{folder}: Read-only file system; choose a folder on a disk" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["-1", "21", "many"])
def test_a_number_of_clips_that_is_none_is_bad_usage(number: str, trained_once: Path):
    with pytest.raises(SystemExit) as ended:
        report(trained_once, "--clips", number)
    assert ended.value.code == 2
