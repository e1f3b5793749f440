"""What the pieces found, gathered from their folders: figures of each, and the table's lines."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lineside_trainer.runs.predictions import PREDICTIONS, Prediction, read_predictions
from lineside_trainer.runs.results import Figure, PretrainResult, Run, TrainResult
from lineside_trainer.runs.runfolder import RESULT, read_document
from lineside_trainer.study.document import Line, OverSeeds, PieceFigures, StudyFigures
from lineside_trainer.study.file import TRIVIAL, share_key
from lineside_trainer.study.paired import Difference, compare, figure_of
from lineside_trainer.study.plan import Piece, Plan
from lineside_trainer.study.trivial import TrivialResult
from lineside_trainer.study.work import command_of, is_done, saved_error

HANDMADE: Final = "hand-made features, ridge"
_MINUTE_S: Final = 60.0


def gather(plan: Plan, command: str) -> StudyFigures:
    """Read every finished piece of the plan.

    Raises:
        TrainerError: a result that cannot be read.
    """
    documents = [(piece, _read(piece)) for piece in plan.pieces]
    judged = next((d for _, d in documents if isinstance(d, (TrainResult, TrivialResult))), None)
    metric = judged.metric if judged else ""
    lower = judged.lower_is_better if judged else True
    predictions = _Predictions(metric)
    out = plan.asked.out.resolve()
    pieces = [_figures(piece, document, predictions, out) for piece, document in documents]
    lines = _Lines(plan, pieces, predictions).all()
    return StudyFigures(
        title=plan.study.title,
        about=plan.study.about,
        metric=metric,
        lower_is_better=lower,
        baseline_name=judged.baseline_name if judged else "trivial predictor",
        epochs_factor=plan.asked.epochs_factor,
        seeds=list(plan.study.seeds),
        split_seeds=list(plan.study.split_seeds),
        reference=plan.study.reference,
        command=command,
        lines=_with_best(lines, lower=lower),
        pieces=pieces,
    )


Document = PretrainResult | TrainResult | TrivialResult


class _Predictions:
    """Of finished pieces, read once, by folder and sample set."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._by_folder: dict[Path, list[Prediction]] = {}

    def of(self, piece_folder: Path, name: str) -> list[Prediction]:
        if piece_folder not in self._by_folder:
            self._by_folder[piece_folder] = read_predictions(piece_folder / PREDICTIONS)
        return [one for one in self._by_folder[piece_folder] if one.set == name]

    def validation(self, piece_folder: Path) -> float | None:
        return figure_of(self.metric, self.of(piece_folder, "validation"))


def _read(piece: Piece) -> Document | None:
    if not is_done(piece):
        return None
    kinds: dict[str, type[Document]] = {
        "pretrain": PretrainResult,
        "train": TrainResult,
        "trivial": TrivialResult,
    }
    return read_document(piece.folder / RESULT, kinds[piece.kind])


def _figures(
    piece: Piece, document: Document | None, predictions: _Predictions, out: Path
) -> PieceFigures:
    plain = PieceFigures(
        id=piece.id,
        kind=piece.kind,
        name=piece.name,
        seed=piece.seed,
        split_seed=piece.experiment.data.split_seed,
        label_share=piece.label_share,
        state="done",
        command=shlex.join(command_of(piece, below=out)),
    )
    replace = msgspec.structs.replace
    if document is None:
        why = piece.missing or saved_error(piece)
        state = "missing" if piece.missing else "failed" if why else "to do"
        return replace(plain, state=state, why=why)
    if isinstance(document, PretrainResult):
        return _with_run(plain, document.run, "pre-training")
    if isinstance(document, TrainResult):
        return replace(
            _with_run(plain, document.run, "training"),
            value=document.test[document.metric].value,
            figures=_values(document.test),
            baseline=document.baseline[document.metric].value,
            validation=predictions.validation(piece.folder),
        )
    return replace(
        plain,
        value=document.handmade[document.metric].value,
        figures=_values(document.handmade),
        baseline=document.baseline[document.metric].value,
        validation=document.handmade_validation,
        images=document.labels,
        seconds=document.seconds,
        data_sha256=document.data_sha256,
        machine=document.machine,
        versions=document.versions,
    )


def _values(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.items()}


def _with_run(plain: PieceFigures, run: Run, learnt: str) -> PieceFigures:
    return msgspec.structs.replace(
        plain,
        parameters=run.parameters,
        images=run.counts[learnt],
        epochs=run.epochs,
        seconds=run.seconds,
        data_sha256=run.data_sha256,
        transductive=run.transductive,
        precision=run.precision,
        machine=run.machine,
        versions=run.versions,
    )


class _Lines:
    """The table's lines, share by share, in the file's order, the trivial ones last."""

    def __init__(
        self, plan: Plan, pieces: Sequence[PieceFigures], predictions: _Predictions
    ) -> None:
        self._plan = plan
        self._figures = {p.folder: f for p, f in zip(plan.pieces, pieces, strict=True)}
        self._predictions = predictions

    def all(self) -> list[Line]:
        """Every line."""
        shares = dict.fromkeys(p.label_share for p in self._plan.pieces if p.kind != "pretrain")
        lines = []
        for share in sorted(shares, reverse=True):
            for row in self._plan.study.row:
                mine = self._pieces(row.name, share)
                if mine:
                    lines.append(self._row(row.name, row.shown, share, mine))
            lines += self._trivial(share)
        return lines

    def _pieces(self, name: str, share: float) -> list[Piece]:
        return [
            piece
            for piece in self._plan.pieces
            if piece.kind != "pretrain" and (piece.name, piece.label_share) == (name, share)
        ]

    def _row(self, name: str, label: str, share: float, mine: list[Piece]) -> Line:
        every = [self._figures[piece.folder] for piece in mine]
        done = [one for one in every if one.state == "done"]
        before = [self._figures[piece.needs] for piece in mine if piece.needs]
        return Line(
            name=name,
            label=label,
            label_share=share,
            seeds=[one.seed for one in done],
            test=_spread([one.value for one in done]),
            validation=_spread([one.validation for one in done]),
            ratio=_spread([_ratio(one) for one in done]),
            others=_others(self._predictions.metric, [one.figures for one in done]),
            to_reference=self._to_reference(name, share, mine),
            parameters=done[0].parameters if done else 0,
            pretraining_minutes=_minutes([one for one in before if one.state == "done"]),
            tuning_minutes=_minutes(done),
            note=_note([*every, *before]),
        )

    def _trivial(self, share: float) -> list[Line]:
        mine = self._pieces(TRIVIAL, share)
        every = [self._figures[piece.folder] for piece in mine]
        done = [one for one in every if one.state == "done"]
        read = [read_document(p.folder / RESULT, TrivialResult) for p in mine if is_done(p)]
        ratios: list[float | None] = [1.0 for _ in done]
        seeds, note = [one.seed for one in done], _note(every)
        return [
            Line(
                name="handmade",
                label=HANDMADE,
                label_share=share,
                seeds=seeds,
                test=_spread([one.value for one in done]),
                validation=_spread([one.validation for one in done]),
                ratio=_spread([_ratio(one) for one in done]),
                others=_others(self._predictions.metric, [one.figures for one in done]),
                to_reference=self._to_reference(TRIVIAL, share, mine),
                tuning_minutes=_minutes(done),
                note=note,
            ),
            Line(
                name="baseline",
                label=read[0].baseline_name if read else "trivial predictor",
                label_share=share,
                seeds=seeds,
                test=_spread([one.baseline for one in done]),
                validation=_spread([one.baseline_validation for one in read]),
                ratio=_spread(ratios),
                others=_others(self._predictions.metric, [_values(one.baseline) for one in read]),
                note=note,
            ),
        ]

    def _to_reference(self, name: str, share: float, mine: list[Piece]) -> Difference | None:
        reference = self._plan.study.reference
        if not reference or name == reference:
            return None
        theirs = self._tested(self._pieces(reference, share))
        return compare(self._predictions.metric, self._tested(mine), theirs)

    def _tested(self, pieces: list[Piece]) -> dict[int, list[Prediction]]:
        return {p.seed: self._predictions.of(p.folder, "test") for p in pieces if is_done(p)}


def _ratio(one: PieceFigures) -> float | None:
    if one.value is None or not one.baseline:
        return None
    return one.value / one.baseline


def _spread(values: Sequence[float | None]) -> OverSeeds | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return OverSeeds(mean=statistics.fmean(known), std=std, values=known)


def _others(metric: str, figures: Sequence[Mapping[str, float]]) -> dict[str, OverSeeds]:
    """Metrics that every seed has, besides the primary one."""
    shared = [name for name in (figures[0] if figures else ()) if name != metric]
    spreads = {name: _spread([one.get(name) for one in figures]) for name in shared}
    return {name: spread for name, spread in spreads.items() if spread}


def _note(every: Sequence[PieceFigures]) -> str:
    """The first thing that is in the way, and on how many seeds."""
    for state in ("missing", "failed", "to do"):
        those = [one for one in every if one.state == state]
        if those:
            why = f": {those[0].why}" if those[0].why else ""
            seeds = ", ".join(dict.fromkeys(str(one.seed) for one in those))
            return f"{state} (seed {seeds}){why}"
    return ""


def _with_best(lines: list[Line], *, lower: bool) -> list[Line]:
    """Δ to best as in table 4 of Röhrich et al.: the mean over the best mean at this share.

    A line with fewer seeds than others is not held for the best: it saw fewer splits. For the same
    reason it is compared over those seeds alone that it shares with the best.
    """
    best = _best_lines(lines, lower=lower)
    replace = msgspec.structs.replace
    return [
        replace(line, to_best_percent=_worse_percent(line, best[key], lower=lower))
        if (key := share_key(line.label_share)) in best
        else line
        for line in lines
    ]


def _worse_percent(line: Line, best: Line, *, lower: bool) -> float | None:
    ours, theirs = _by_seed(line), _by_seed(best)
    shared = ours.keys() & theirs.keys()
    if not shared:
        return None
    mean, their_mean = (statistics.fmean([of[s] for s in shared]) for of in (ours, theirs))
    if not their_mean:
        return None
    return 100.0 * (mean - their_mean if lower else their_mean - mean) / their_mean


def _by_seed(line: Line) -> dict[int, float]:
    return dict(zip(line.seeds, line.test.values, strict=True)) if line.test else {}


def _best_lines(lines: list[Line], *, lower: bool) -> dict[str, Line]:
    """By share; of equals the first."""
    choose = min if lower else max
    best: dict[str, Line] = {}
    for key in {share_key(line.label_share) for line in lines}:
        here = [line for line in lines if line.test and share_key(line.label_share) == key]
        most = max((len(line.seeds) for line in here), default=0)
        full = [line for line in here if len(line.seeds) == most]
        if full:
            best[key] = choose(full, key=lambda line: line.test.mean if line.test else math.nan)
    return best


def _minutes(pieces: Sequence[PieceFigures]) -> float:
    """Mean over these pieces; 0 of none."""
    return statistics.fmean([one.seconds / _MINUTE_S for one in pieces]) if pieces else 0.0
