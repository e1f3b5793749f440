"""What a run says of its anomaly scores, and what it says instead where there is nothing to say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from numpy.typing import NDArray

from lineside_trainer.errors import DataError
from lineside_trainer.evaluate.anomaly_judgement import (
    PAPER_SHARE,
    ScoredSet,
    anomaly_yardstick,
    judge_anomaly,
    propose_limits,
)
from lineside_trainer.evaluate.anomaly_limit import check_good_parts, given_limit
from lineside_trainer.evaluate.judgement import measure
from lineside_trainer.evaluate.leaks import find_leaks
from lineside_trainer.runs.anomaly_results import AnomalyResult, AnomalyScore, Leaks
from lineside_trainer.runs.figure import Figure
from lineside_trainer.runs.runfolder import read_document, write_document
from lineside_trainer.telling.anomaly_report import anomaly_tables

FIGURES = ("auroc", "average_precision", "precision", "recall", "f1", "overkill")
NO_LEAKS = Leaks(scores={}, all_anomalous_f1=None)


def scored(good: int, bad: int, *, apart: float = 1.5, seed: int = 0) -> ScoredSet:
    random = np.random.default_rng(seed)
    member = np.arange(good + bad) >= good
    noise = random.standard_normal((2, good + bad))
    return ScoredSet(
        bad=member,
        parts=np.array([f"p{i // 2}" for i in range(good + bad)]),
        scores={"recon": noise[0] + apart * member, "gradcon": noise[1] + 2 * apart * member},
    )


def judged(validation: ScoredSet, test: ScoredSet, leaks: Leaks = NO_LEAKS) -> AnomalyResult:
    limits = propose_limits(validation)
    return judge_anomaly(validation, test, limits, exported="gradcon", leaks=leaks)


def theirs(bad: NDArray[np.bool_], values: NDArray[np.float64], limit: float) -> dict[str, float]:
    flagged = values > limit
    return {
        "auroc": oracle.roc_auc_score(bad, values),
        "average_precision": oracle.average_precision_score(bad, values),
        "precision": oracle.precision_score(bad, flagged),
        "recall": oracle.recall_score(bad, flagged),
        "f1": oracle.f1_score(bad, flagged),
        "overkill": flagged[~bad].mean(),
    }


def test_figures_are_those_of_another_implementation_at_the_validation_limit() -> None:
    validation, test = scored(60, 20, seed=1), scored(84, 66, seed=2)
    result = judged(validation, test)
    assert list(result.scores) == ["recon", "gradcon"]
    for name, found in result.scores.items():
        values = test.scores[name]
        expected = theirs(test.bad, values, found.limit)
        for field, value in expected.items():
            figure: Figure = getattr(found, field)
            assert figure.value == pytest.approx(value), field
            assert figure.low is not None and figure.high is not None
            assert figure.low <= value <= figure.high
            assert (figure.drawn_by, figure.drawn) == ("part", 75)
        # 66 of 150 are bad, as in the paper, so the redrawn mean is near the figure itself.
        assert found.at_share is not None and found.at_share.share == PAPER_SHARE
        assert found.at_share.f1.mean == pytest.approx(expected["f1"], abs=0.02)
        assert found.at_share.f1.std is not None and 0.01 < found.at_share.f1.std < 0.08
        assert found.limit_rule == "best_f1"
    assert result.notes == ()
    assert result.counts == {
        "validation good": 60,
        "validation bad": 20,
        "test good": 84,
        "test bad": 66,
    }


def test_spreads_are_those_of_whole_parts() -> None:
    validation, test = scored(60, 20), scored(40, 40)
    alike = ScoredSet(
        bad=np.repeat(test.bad, 4),
        parts=np.repeat(np.arange(80).astype(str), 4),
        scores={name: np.repeat(values, 4) for name, values in test.scores.items()},
    )
    by_part = judged(validation, alike).scores["recon"].at_share
    by_image = judged(validation, replace(alike, parts=np.arange(320).astype(str)))
    narrow = by_image.scores["recon"].at_share
    assert by_part is not None and by_part.f1.std is not None
    assert narrow is not None and narrow.f1.std is not None
    assert narrow.f1.std < 0.6 * by_part.f1.std  # half, of four times as many


def test_the_yardstick_is_who_flags_all() -> None:
    test = scored(84, 66)
    judgement = measure(anomaly_yardstick(test.bad, test.scores["gradcon"], 1.5), test.parts)
    assert judgement.metric == "auroc" and judgement.better
    assert judgement.baseline["auroc"].value == 0.5
    assert judgement.baseline["f1"].value == pytest.approx(2 * 0.44 / 1.44)
    assert judgement.baseline["recall"].value == judgement.baseline["overkill"].value == 1.0


@pytest.mark.parametrize(("kind", "metric"), [((50, 0), "overkill"), ((0, 50), "recall")])
def test_of_one_kind_alone_the_yardstick_is_what_is_left(
    kind: tuple[int, int], metric: str
) -> None:
    test = scored(*kind)
    judgement = measure(anomaly_yardstick(test.bad, test.scores["recon"], 1.5), test.parts)
    assert list(judgement.figures) == [metric] == [judgement.metric]
    assert judgement.better == (metric == "overkill")  # nobody finds more than who flags all


def test_good_validation_images_alone_choose_by_quantile_and_say_so() -> None:
    result = judged(scored(120, 0), scored(84, 66))
    assert {score.limit_rule for score in result.scores.values()} == {"quantile"}
    assert len(result.notes) == 1 and "no validation image is bad" in result.notes[0]
    assert "known from the test images alone" in result.notes[0]
    assert result.scores["recon"].f1 is not None  # the test images have bad ones


def test_without_any_bad_image_nobody_is_sent_to_the_test_images() -> None:
    limit, figures = judged(scored(120, 0), scored(84, 0)).notes
    assert limit.endswith("how many bad parts escape it is not known")
    assert "no test image is bad" in figures


def test_without_bad_test_images_only_overkill_is_said_and_one_sentence_why() -> None:
    result = judged(scored(60, 20), scored(50, 0))
    score = result.scores["recon"]
    assert [field for field in FIGURES if getattr(score, field)] == ["overkill"]
    assert score.at_share is None
    assert len(result.notes) == 1 and "no test image is bad" in result.notes[0]
    shown = "\n".join(f"{a}: {b}" for t in anomaly_tables(result).values() for a, b in t.items())
    assert "overkill rate" in shown
    assert "AUROC" not in shown and "precision" not in shown
    assert not any(line.startswith("F1") for line in shown.splitlines())


def test_without_good_test_images_only_recall_is_said() -> None:
    result = judged(scored(60, 20), scored(0, 50))
    assert [f for f in FIGURES if getattr(result.scores["recon"], f)] == ["recall"]
    assert "no test image is good" in result.notes[0]


def test_a_limit_that_flags_nothing_has_no_precision() -> None:
    validation, test = scored(60, 20), scored(20, 20)
    limits = {name: given_limit(100.0) for name in test.scores}
    found = judge_anomaly(validation, test, limits, exported="recon", leaks=NO_LEAKS)
    score = found.scores["recon"]
    assert score.precision is None
    assert score.f1 is not None and score.f1.value == 0.0
    assert score.at_share is not None and score.at_share.precision is None
    assert score.at_share.f1.mean == 0.0
    assert score.limit_rule == "given" and "given" in score.limit_from


def test_leaks_reach_the_notes() -> None:
    validation, test = scored(60, 20), scored(30, 30)
    leaks = find_leaks(test.bad, {"size": test.bad * 10.0})
    result = judged(validation, test, leaks)
    assert any("size alone" in note for note in result.notes)
    assert result.leaks.all_anomalous_f1 == pytest.approx(2 / 3)


def test_a_score_that_is_no_number_is_refused() -> None:
    test = scored(20, 20)
    test.scores["recon"][3] = math.nan
    with pytest.raises(DataError, match="1 of 40 test images: the score 'recon' is not finite"):
        judged(scored(60, 20), test)


def test_too_few_good_parts_are_found_before_training() -> None:
    check_good_parts([False, False], ["a", "b"])
    with pytest.raises(DataError, match="1 good part"):
        check_good_parts([False, False, True], ["a", "a", "b"])


@pytest.mark.parametrize("bad", [0, 30])
def test_the_document_comes_back_as_it_was(tmp_path: Path, bad: int) -> None:
    leaks = find_leaks(np.arange(30 + bad) >= 30, {"blur": np.arange(30.0 + bad)})
    result = judged(scored(60, 20), scored(30, bad), leaks)
    write_document(tmp_path / "result.json", result)
    assert "NaN" not in (tmp_path / "result.json").read_text()
    assert read_document(tmp_path / "result.json", AnomalyResult) == result


def test_tables_show_every_score_and_its_limit() -> None:
    tables = anomaly_tables(judged(scored(60, 20), scored(84, 66)))
    ranked = tables["Test images ranked by each score"]
    assert [label for label in ranked if "AUROC" in label] == [
        "Recon: AUROC",
        "GradCon (exported): AUROC",
    ]
    redrawn = next(rows for heading, rows in tables.items() if "redrawn with 44%" in heading)
    assert list(redrawn) == ["Recon", "GradCon (exported)"]
    assert all("F1 0." in row and " ± " in row for row in redrawn.values())
    at_limit = tables["Test images at the limit of GradCon (exported)"]
    assert "best F1" in at_limit["limit"]
    assert {"F1", "precision"} <= set(at_limit)


def test_every_figure_of_a_score_is_in_a_table() -> None:
    told = {name for name, kind in AnomalyScore.__annotations__.items() if "Figure" in str(kind)}
    assert told == set(FIGURES)
    tables = anomaly_tables(judged(scored(60, 20), scored(84, 66)))
    shown = " ".join(label for rows in tables.values() for label in rows)
    for words in ("AUROC", "average precision", "precision", "recall", "F1", "overkill"):
        assert words in shown
