"""Tables of anomaly scores for the report."""

from __future__ import annotations

from typing import Final

from lineside_trainer.evaluate.leaks import tabulate_leaks
from lineside_trainer.runs.anomaly_results import AnomalyResult, AnomalyScore, AtShare, Redrawn
from lineside_trainer.runs.figure import Figure
from lineside_trainer.telling.tuning_report import show_figure

_RANKING: Final = {"auroc": "AUROC", "average_precision": "average precision"}
_AT_LIMIT: Final = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall (1 less the escape rate of images)",
    "overkill": "overkill rate of images",
}
_NAMES: Final = {"recon": "Recon", "elbo": "ELBO", "gradcon": "GradCon"}


def anomaly_tables(result: AnomalyResult) -> dict[str, dict[str, str]]:
    """Rows by heading: how scores rank, what they do at their limits, what needs no model.

    A figure that the test images leave undefined has no row; ``result.notes`` say why.
    """
    tables = {
        "Test images ranked by each score": _ranked(result),
        **{
            f"Test images at the limit of {show_score(name, result)}": _at_limit(score)
            for name, score in result.scores.items()
        },
        _share_heading(result): _at_share(result),
        "What needs no model (test images)": tabulate_leaks(result.leaks),
    }
    return {heading: rows for heading, rows in tables.items() if rows}


def show_score(name: str, result: AnomalyResult) -> str:
    """What the paper calls a score, and whether the candidate gives it."""
    shown = _NAMES.get(name, name)
    return f"{shown} (exported)" if name == result.exported else shown


def _ranked(result: AnomalyResult) -> dict[str, str]:
    return {
        f"{show_score(name, result)}: {words}": show_figure(figure)
        for field, words in _RANKING.items()
        for name, score in result.scores.items()
        if (figure := _figure(score, field)) is not None
    }


def _at_limit(score: AnomalyScore) -> dict[str, str]:
    figures = {
        words: show_figure(figure)
        for field, words in _AT_LIMIT.items()
        if (figure := _figure(score, field)) is not None
    }
    return {"limit": score.limit_from, **figures}


def _share_heading(result: AnomalyResult) -> str:
    shares = {score.at_share.share for score in result.scores.values() if score.at_share}
    told = " or ".join(f"{share:.0%}" for share in sorted(shares))
    return (
        f"Test images redrawn with {told} bad ones, as in Ulger et al. (mean ± standard deviation "
        "of the draws)"
    )


def _at_share(result: AnomalyResult) -> dict[str, str]:
    return {
        show_score(name, result): _show_share(score.at_share)
        for name, score in result.scores.items()
        if score.at_share is not None
    }


def _show_share(found: AtShare) -> str:
    shown = {"F1": found.f1, "precision": found.precision, "recall": found.recall}
    return ", ".join(f"{name} {_show_redrawn(figure)}" for name, figure in shown.items() if figure)


def _show_redrawn(figure: Redrawn) -> str:
    spread = "" if figure.std is None else f" ± {figure.std:.3f}"
    return f"{figure.mean:.3f}{spread}"


def _figure(score: AnomalyScore, field: str) -> Figure | None:
    found: Figure | None = getattr(score, field)
    return found
