"""The report of an anomaly run: scores, curves, maps, and what its family shows besides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lineside.durable import make_folder
from lineside_trainer.anomaly.built import Built
from lineside_trainer.anomaly.seen import Shown
from lineside_trainer.candidate import CandidateCheck
from lineside_trainer.evaluate import Picture
from lineside_trainer.evaluate.anomaly_figures import draw_ranking_curves, draw_score_histograms
from lineside_trainer.evaluate.anomaly_pictures import (
    Mapped,
    choose_borderline,
    draw_anomaly_maps,
)
from lineside_trainer.evaluate.figures import draw_curves
from lineside_trainer.evaluate.report import Report, write_report
from lineside_trainer.experiment import Experiment
from lineside_trainer.experiment_file import encode_experiment
from lineside_trainer.runs.results import TrainResult
from lineside_trainer.runs.runfolder import FIGURES, REPORT
from lineside_trainer.telling.anomaly_report import anomaly_tables
from lineside_trainer.telling.pretraining_report import CURVES
from lineside_trainer.telling.tuning_report import (
    pretraining_pictures,
    show_figure,
    show_metric,
    tell_candidate,
)


def draw_anomalies(folder: Path, shown: Shown, built: Built) -> tuple[Picture, ...]:
    """Every picture of the test images, written into `folder`.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    make_folder(folder)
    return (*_draw_scores(folder, shown), *_draw_maps(folder, shown), *built.draw(folder, shown))


def _draw_scores(folder: Path, shown: Shown) -> Iterator[Picture]:
    test, name = shown.test, shown.exported
    histogram, curves = folder / "scores.png", folder / "ranking.png"
    draw_score_histograms(histogram, test.bad, shown.chosen, limit=shown.limit, name=name)
    yield Picture(
        file=histogram,
        caption=f"The score, {name}, of the test images. {shown.limits[name].sentence}.",
    )
    if test.bad.any() and not test.bad.all():
        draw_ranking_curves(curves, test.bad, test.scores, shown.trivial)
        yield Picture(
            file=curves,
            caption="What each score parts on the test images, at every limit; thin lines are "
            "scores that need no model.",
        )


def _draw_maps(folder: Path, shown: Shown) -> Iterator[Picture]:
    maps = folder / "maps.png"
    examples = [
        Mapped(scored=shown.scored(place), map_hw=shown.test.maps[place])
        for place in choose_borderline(shown.test.bad, shown.chosen)
    ]
    draw_anomaly_maps(maps, examples, limit=shown.limit, region_limit=shown.region.limit)
    yield Picture(
        file=maps,
        caption="Where the map points, of the good test images that score worst and the bad ones "
        f"that score mildest. Regions: {shown.region.sentence}.",
    )


def report_anomalies(
    out: Path,
    experiment: Experiment,
    result: TrainResult,
    built: Built,
    pictures: tuple[Picture, ...],
    check: CandidateCheck,
) -> None:
    """Draw the curves and write the page.

    Args:
        out: the run's folder.
        experiment: all settings.
        result: what the page says.
        built: how it learnt.
        pictures: of the test samples, first on the page.
        check: of the exported program.

    Raises:
        StorageError: the disk is full, read-only or gone.
        TrainerError: the figures of the pre-training cannot be read any more.
    """
    assert result.anomaly is not None, "of an anomaly run"
    curves = out / FIGURES / CURVES
    if len(built.fitted.rows) > 1:
        best = built.fitted.best_epoch
        draw_curves(curves, built.fitted.rows, best_epoch=best, validation=built.judged_by)
        pictures = (*pictures, Picture(file=curves, caption="Losses over epochs."))
    report = Report(
        title=f"Anomalies, {result.arch}: {result.anomaly.exported}",
        figures=_first_table(result),
        pictures=(*pictures, *pretraining_pictures(out / FIGURES, result.init)),
        run=result.run,
        experiment=encode_experiment(experiment),
        more=anomaly_tables(result.anomaly) | built.tables() | tell_candidate(check),
    )
    write_report(out / REPORT, report)


def _first_table(result: TrainResult) -> dict[str, str]:
    run, trivial = result.run, result.baseline_name
    return {
        **{f"test {show_metric(name)}": show_figure(f) for name, f in result.test.items()},
        **{
            f"{show_metric(name)} of {trivial}, same images": show_figure(figure)
            for name, figure in result.baseline.items()
        },
        f"{show_metric(result.metric)}: interval is better than that": (
            "yes" if result.better_than_baseline else "NO"
        ),
        f"validation {result.judged_by}": (
            f"{run.validation.best:.4g} (epoch {run.validation.best_epoch + 1} of {run.epochs})"
        ),
        "started from": result.init or result.weights or "noise",
    }
