"""`lineside train --task anomaly`: learn from good parts alone, choose the limit, test, write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lineside.contract import AnomalyHead, Contract, LimitRule, MemorySpec, OutputSpec
from lineside_trainer.ancestry.initial import InitialWeights, check_unseen, find_initial
from lineside_trainer.anomaly.built import Built
from lineside_trainer.anomaly.goodness import (
    Goodness,
    check_goodness,
    find_goodness,
    label_all_good,
    spare_bad_parts,
)
from lineside_trainer.anomaly.judging import Judged, judge_anomalies, tell_anomalies
from lineside_trainer.anomaly.reconstruction import learn_to_reconstruct
from lineside_trainer.anomaly.remembering import remember_good_parts
from lineside_trainer.anomaly.reporting import draw_anomalies, report_anomalies
from lineside_trainer.anomaly.seen import Seen, Shown
from lineside_trainer.candidate import write_candidate
from lineside_trainer.data import write_split
from lineside_trainer.experiment import Experiment
from lineside_trainer.learning.processes import this_place
from lineside_trainer.models import AUTOENCODERS
from lineside_trainer.models.detector import MAP, SCORE
from lineside_trainer.prepared import Prepared, channel_figures, prepare_data
from lineside_trainer.runs.predictions import PREDICTIONS, write_predictions
from lineside_trainer.runs.provenance import candidate_provenance
from lineside_trainer.runs.results import TrainResult
from lineside_trainer.runs.runfolder import CANDIDATE, FIGURES, RESULT, SPLIT, write_document
from lineside_trainer.runs.summary import summarise


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """Everything before any learning.

    Attributes:
        prepared: images, with bad parts spared from training.
        goodness: of them.
        initial: what the network starts from, None for noise.
        notes: what a reader must know.
    """

    prepared: Prepared
    goodness: Goodness
    initial: InitialWeights | None
    notes: tuple[str, ...]


def tune_anomaly(experiment: Experiment, out: Path, *, resume: bool) -> TrainResult:
    """Learn, judge, and write the run's folder with its candidate.

    Raises:
        ExperimentError: settings that cannot be.
        DataError: images that cannot be used, or too few good ones.
        TrainerError: it went wrong on the way.
        StorageError: the disk is full, read-only or gone.
    """
    lineup = _line_up(experiment, out)
    learn = learn_to_reconstruct if experiment.model.arch in AUTOENCODERS else remember_good_parts
    built = learn(experiment, lineup.prepared, lineup.goodness, lineup.initial, out, resume=resume)
    validation, test = (_see(built, lineup, name) for name in ("validation", "test"))
    learnt_from = lineup.goodness.good_rows(lineup.prepared.split.indices["training"])
    judged = judge_anomalies(
        lineup.prepared, validation, test, learnt_from, told=experiment.train.limit
    )
    told = tell_anomalies(lineup.prepared, lineup.goodness, judged, (validation, test))
    write_predictions(out / PREDICTIONS, told)
    pictures = draw_anomalies(out / FIGURES, _shown(lineup, judged, test), built)
    contract = make_contract(experiment, lineup, built, judged)
    # Not before the pictures: what could not be drawn is one of its notes.
    result = _result(experiment, lineup, built, judged)
    check = write_candidate(
        out / CANDIDATE,
        built.detector,
        contract,
        lineup.prepared,
        candidate_provenance(result),
    )
    report_anomalies(out, experiment, result, built, pictures, check)
    write_document(out / RESULT, result)
    return result


def _line_up(experiment: Experiment, out: Path) -> Lineup:
    settings = experiment.train
    initial = find_initial(experiment, "train")
    prepared = prepare_data(experiment, target=settings.target or None, folder=out)
    goodness = find_goodness(prepared, settings)
    if not settings.target:
        prepared = replace(prepared, table=label_all_good(prepared.table))
    prepared = spare_bad_parts(prepared, goodness, seen=initial is not None)
    check_goodness(prepared, goodness)
    mean, std = channel_figures(prepared.store, goodness.good_rows(prepared.split.fold("training")))
    prepared = replace(prepared, channel_mean=mean, channel_std=std)
    if this_place().is_first:
        write_split(out / SPLIT, prepared.split, prepared.table)
    notes = check_unseen(prepared, initial) if initial is not None else ()
    return Lineup(prepared=prepared, goodness=goodness, initial=initial, notes=notes)


def _see(built: Built, lineup: Lineup, name: str) -> Seen:
    rows = lineup.goodness.known_rows(lineup.prepared.split.indices[name])
    return built.see(lineup.prepared, lineup.goodness, rows)


def _shown(lineup: Lineup, judged: Judged, test: Seen) -> Shown:
    return Shown(
        prepared=lineup.prepared,
        goodness=lineup.goodness,
        test=test,
        exported=judged.figures.exported,
        limits=judged.limits,
        region=judged.region,
        trivial=judged.trivial,
    )


def make_contract(experiment: Experiment, lineup: Lineup, built: Built, judged: Judged) -> Contract:
    """What the candidate promises."""
    settings, prepared, goodness = experiment.train, lineup.prepared, lineup.goodness
    memory = built.detector.memory
    return Contract(
        product=settings.product or Path(experiment.data.folder).resolve().name,
        frame=prepared.table.frame,
        input=prepared.input,
        outputs=(OutputSpec(name=SCORE), OutputSpec(name=MAP, shape=built.detector.map_hw)),
        memory=None if memory is None else MemorySpec(width=memory.shape[1]),
        head=AnomalyHead(
            output=SCORE,
            map=MAP,
            region_limit=judged.region.limit,
            target=settings.target,
            classes=goodness.classes,
            good=goodness.good,
        ),
        proposed_rule=_rule(settings.limit),
    )


def _rule(limit: float | None) -> LimitRule | None:
    """What the user has told. Else the exporter chooses on the same validation parts, by the scores
    of what it seals, and seals its evidence; the run's own limit is what its figures are at."""
    return None if limit is None else LimitRule(ok_limit=limit, not_ok_limit=limit)


def _result(experiment: Experiment, lineup: Lineup, built: Built, judged: Judged) -> TrainResult:
    settings, judgement, initial = experiment.train, judged.judgement, lineup.initial
    return TrainResult(
        task=settings.task,
        arch=experiment.model.arch,
        target=settings.target,
        unit=settings.unit,
        metric=judgement.metric,
        lower_is_better=judgement.lower_is_better,
        judged_by=built.judged_by,
        test=judgement.figures,
        baseline=judgement.baseline,
        baseline_name=judgement.baseline_name,
        better_than_baseline=judgement.better,
        test_by_part=judgement.by_part,
        unlabelled=len(lineup.prepared.table.unlabelled),
        init=settings.init,
        weights=initial.weights_file if initial else "",
        weights_sha256=initial.sha256 if initial else "",
        candidate=CANDIDATE,
        run=summarise(
            lineup.prepared,
            built.layers,
            built.fitted,
            experiment=experiment,
            settings=msgspec.structs.replace(settings.fit, epochs=built.epochs(settings.fit)),
            counts=_counts(lineup),
            notes=(*lineup.notes, *built.notes, *judged.figures.notes),
            transductive=initial is not None and initial.transductive,
        ),
        anomaly=judged.figures,
    )


def _counts(lineup: Lineup) -> dict[str, int]:
    """Images by use; of validation and test good and bad ones apart."""
    goodness, indices = lineup.goodness, lineup.prepared.split.indices
    counts = {name: len(goodness.good_rows(indices[name])) for name in ("training", "quantisation")}
    for name in ("validation", "test"):
        counts[f"{name}, good"] = len(goodness.good_rows(indices[name]))
        counts[f"{name}, bad"] = len(goodness.bad_rows(indices[name]))
    counts["golden"] = len(indices["golden"])
    if len(indices["assurance"]):
        counts["assurance"] = len(indices["assurance"])
    return counts
