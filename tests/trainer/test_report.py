"""The report says what must not be overlooked, and runs nothing that a file name says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from lineside_trainer.evaluate.figures import draw_predictions
from lineside_trainer.evaluate.report import Picture, Report, write_report
from lineside_trainer.runs.results import Ends, Run

RUN = Run(
    images=10,
    counts={"training": 6, "test": 2},
    rejected={"<script>alert(1)</script>.png": "not an image"},
    notes=("few parts",),
    transductive=False,
    epochs=3,
    batch_size=4,
    training_loss=Ends(first=1.0, last=0.5, best=0.5, best_epoch=2),
    validation=Ends(first=1.0, last=0.5, best=0.4, best_epoch=1),
    seconds=12.0,
    images_per_s=34.0,
    parameters=5761217,
    device="cpu",
    precision="fp32",
    seed=7,
    split_seed=0,
    data_sha256="ab" * 32,
    versions={"torch": "2"},
    machine="a desk",
    command="lineside train",
)


def render(folder: Path, run: Run, pictures: tuple[Picture, ...] = ()) -> str:
    report = Report(
        title="Regression of x",
        figures={"test MSE": "0.1"},
        pictures=pictures,
        run=run,
        experiment="[train]",
        more={"Test MSE by part": {"a": "0.2"}},
    )
    write_report(folder / "report.html", report)
    return (folder / "report.html").read_text()


def test_it_shows_everything_and_escapes_names(tmp_path: Path) -> None:
    page = render(tmp_path, RUN)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in page
    for text in (
        "not an image",
        "few parts",
        "5,761,217",
        "ab" * 32,
        "a desk",
        "by part",
        "[train]",
    ):
        assert text in page


@pytest.mark.parametrize("transductive", [False, True])
def test_transductive_figures_are_marked(transductive: bool, tmp_path: Path) -> None:
    run = msgspec.structs.replace(RUN, transductive=transductive)
    assert ("<strong>Transductive:</strong>" in render(tmp_path, run)) is transductive


def test_figures_are_embedded_and_the_same_every_time(tmp_path: Path) -> None:
    targets = np.linspace(0, 1, 5)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, second):
        draw_predictions(path, targets, targets**2, name="x")
    assert first.read_bytes() == second.read_bytes()
    page = render(tmp_path, RUN, (Picture(file=first, caption="Predicted"),))
    assert page.count("data:image/png;base64,iVBOR") == 1
    assert "Predicted (figures/a.png)" in page
