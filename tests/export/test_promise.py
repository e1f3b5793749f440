"""`lineside export --rule … --max-escape`: what is chosen, proven, sealed, and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import lineside
from lineside.bundle import open_bundle
from lineside.candidate import SampleSet, read_samples, write_samples
from lineside.contract import LimitRule
from lineside.verdict import Evaluation
from lineside_export.cli import export
from lineside_export.deciding import Promise, examine_limits
from lineside_export.errors import CandidateError, ExportError, GuaranteeError
from lineside_export.guarantee import escapes_allowed
from lineside_export.guarantee_report import trace
from lineside_export.partscores import PartScores

PROMISE = ("--max-escape", "0.1", "--confidence", "0.9", "--date", "2026-11-21")
QUICK = ("--precision", "fp32", "--engines", "onnxruntime")
LIMIT = 0.06  # of the small candidates' contract
ENGINES = ("onnxruntime", "openvino")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def refused(result: Result, kind: type[ExportError]) -> Any:
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return result.exception


def with_assurance(source: Path, folder: Path, frames: Any, targets: Any) -> Path:
    """A copy whose assurance set is one image a part."""
    shutil.copytree(source, folder)
    sets = read_samples(folder / "samples.npz")
    sets["assurance"] = SampleSet(
        frames_hwc=list(frames),
        targets=np.asarray(targets, np.float64),
        parts=[f"assurance-{index}" for index in range(len(frames))],
    )
    write_samples(folder / "samples.npz", sets)
    return folder


def computed(bundle: Path, trust: Path, frames: Any, engine: str) -> list[lineside.Verdict]:
    with lineside.load(bundle, trust=trust, engine=engine) as inspector:
        return [inspector.inspect(frame) for frame in frames]


@pytest.fixture(scope="module")
def promised_candidate(
    small_candidate: Path, joints: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """300 assurance parts; targets are the float model's scores with noise, some unknown."""
    import torch

    frames = joints(300, 77)
    program = torch.export.load(small_candidate / "program.pt2").module()
    with torch.inference_mode():
        scores = program(torch.from_numpy(frames)).double().numpy()
    targets = scores + 0.004 * np.random.default_rng(5).standard_normal(len(scores))
    targets[::50] = np.nan
    folder = tmp_path_factory.mktemp("promised") / "candidate"
    return with_assurance(small_candidate, folder, frames, targets)


@pytest.fixture(scope="module")
def promised(
    promised_candidate: Path, key_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Sealed as int8 for both engines, and what `--json` said."""
    out = tmp_path_factory.mktemp("sealed") / "promised.lsb"
    done = run(
        *(promised_candidate, "--out", out, "--key", key_pair[0], "--max-flips", "8", "--json"),
        *PROMISE,
    )
    assert done.exit_code == 0, (done.output, done.exception)
    return out, json.loads(done.stdout)


def test_the_sealed_counts_are_those_of_the_device(
    promised: tuple[Path, dict[str, Any]], promised_candidate: Path, key_pair: tuple[Path, Path]
) -> None:
    out, document = promised
    samples = read_samples(promised_candidate / "samples.npz")["assurance"]
    bad = samples.targets > LIMIT
    known = ~np.isnan(samples.targets)
    with open_bundle(out, trust=key_pair[1]) as bundle:
        rule, guarantee = bundle.manifest.rule, bundle.manifest.evidence.guarantee
    assert guarantee is not None
    assert (guarantee.max_escape, guarantee.confidence) == (0.1, 0.9)
    assert guarantee.date == "2026-11-21"
    assert guarantee.unknown_samples == 6
    assert rule.ok_limit == guarantee.ok_limit < LIMIT == rule.not_ok_limit
    allowed = escapes_allowed(int(bad.sum()), max_escape=0.1, confidence=0.9)
    for found in guarantee.assurance:
        verdicts = computed(out, key_pair[1], samples.frames_hwc, found.engine)
        told = np.array([verdict.evaluation for verdict in verdicts])
        assert found.precision == "int8"
        assert found.bad == bad.sum()
        assert found.escaped == (bad & (told == Evaluation.OK)).sum() <= allowed
        assert found.good == (~bad & known).sum()
        review = told == Evaluation.NOT_DECIDABLE
        assert found.bad_reviewed == (bad & review).sum()
        assert found.good_reviewed == (~bad & known & review).sum()
    assert [found.engine for found in guarantee.assurance] == list(ENGINES)
    assert document["guarantee"]["assurance"][0]["bad"] == bad.sum()
    assert document["limit"]["ok"] == rule.ok_limit


def test_the_next_limit_of_the_grid_would_not_be_proven(
    promised: tuple[Path, dict[str, Any]],
) -> None:
    out, document = promised
    guarantee = document["guarantee"]
    assert 0 < guarantee["limits_proven"] < guarantee["limits_tested"]
    assert guarantee["escape_bound"] <= 0.1
    curve = json.loads((out.with_name(out.name + ".report") / "guarantee.json").read_text())
    for point in curve["limits"]:
        proven = point["ok_limit"] <= guarantee["ok_limit"]
        assert (point["escape_bound"] <= 0.1) == proven
    picture = out.with_name(out.name + ".report") / "guarantee.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_day_from_the_environment_gives_the_same_bytes(
    promised: tuple[Path, dict[str, Any]],
    promised_candidate: Path,
    key_pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    again = tmp_path / "again.lsb"
    arguments = (promised_candidate, "--out", again, "--key", key_pair[0], "--max-flips", "8")
    done = CliRunner().invoke(
        export,
        [str(argument) for argument in (*arguments, *PROMISE[:4])],
        env={"SOURCE_DATE_EPOCH": "1795219200"},  # 2026-11-21 00:00 UTC
    )
    assert done.exit_code == 0, done.exception
    assert again.read_bytes() == promised[0].read_bytes()
    for words in ("at most 10 % of bad parts are judged OK, with 90 %", "was tightened from 0.06"):
        assert words in done.output


def test_assurance_samples_move_nothing_but_the_promise(
    promised_candidate: Path, small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    manifests = []
    for name, folder in (("with", promised_candidate), ("without", small_candidate)):
        out = tmp_path / f"{name}.lsb"
        done = run(folder, "--out", out, "--key", key_pair[0], "--rule", "best-f1", *QUICK)
        assert done.exit_code == 0, done.exception
        with open_bundle(out, trust=key_pair[1]) as bundle:
            manifests.append(bundle.manifest)
    kept, none = manifests
    assert (kept.rule, kept.parts, kept.models) == (none.rule, none.parts, none.models)
    assert kept.evidence.decision == none.evidence.decision
    assert kept.evidence.agreements == none.evidence.agreements


@pytest.mark.parametrize(
    ("options", "wishes"),
    [
        (("--rule", "best-f1"), {}),
        (("--rule", "recall", "--min-recall", "0.8"), {"min_recall": 0.8}),
        (
            (
                *("--rule", "cost", "--cost-escape", "40", "--cost-overkill", "10"),
                *("--cost-review", "1"),
            ),
            {"cost_escape": 40.0, "cost_overkill": 10.0, "cost_review": 1.0},
        ),
        (("--max-overkill", "0"), {"max_overkill": 0.0}),
        (("--max-overkill", "1"), {"max_overkill": 1.0}),
    ],
    ids=["best-f1", "recall", "cost", "overkill", "any overkill"],
)
def test_each_way_of_choosing_is_sealed_with_its_counts(
    options: tuple[str, ...],
    wishes: dict[str, float],
    small_candidate: Path,
    key_pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "x.lsb"
    done = run(
        *(small_candidate, "--out", out, "--key", key_pair[0], "--part-images", "together"),
        *(*options, *QUICK, "--json"),
    )
    assert done.exit_code == 0, (done.output, done.exception)
    document = json.loads(done.stdout)
    decision, rule = document["decision"], document["limit"]
    assert decision["wishes"] == wishes
    assert document["guarantee"] is None
    (counts,) = decision["validation"]
    samples = read_samples(small_candidate / "samples.npz")["validation"]
    verdicts = computed(out, key_pair[1], samples.frames_hwc, "onnxruntime")
    parts = sorted(set(samples.parts))
    rows = list(zip(samples.parts, samples.targets, verdicts, strict=True))
    bad = [p for p in parts if any(q == p and target > LIMIT for q, target, _ in rows)]
    told = {p: {verdict.evaluation for q, _, verdict in rows if q == p} for p in parts}
    assert counts["bad"] == len(bad) > 0
    assert counts["escaped"] == sum(told[p] == {Evaluation.OK} for p in bad)
    good = [p for p in parts if p not in bad]
    assert counts["overkilled"] == sum(Evaluation.NOT_OK in told[p] for p in good)
    if "--min-recall" in options:
        assert counts["escaped"] <= 0.2 * counts["bad"]
    if "--max-overkill" in options:
        # Moved out as far as it takes, never in.
        assert rule["ok"] == LIMIT <= rule["not_ok"]
        assert (rule["not_ok"] == LIMIT) == (wishes["max_overkill"] == 1.0)
        assert counts["overkilled"] == 0 or wishes["max_overkill"] == 1.0


def test_parts_with_good_and_bad_images_are_counted_by_inspection(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The fixture's parts are five unlike images: whoever says nothing gets the safer count."""
    done = run(
        *(small_candidate, "--out", tmp_path / "x.lsb", "--key", key_pair[0], *QUICK, "--json")
    )
    assert json.loads(done.stdout)["decision"]["part_images"] == "each"


def test_too_few_bad_parts_are_told_before_any_work(
    promised_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    samples = read_samples(promised_candidate / "samples.npz")["assurance"]
    bad = int((samples.targets > LIMIT).sum())
    done = run(
        *(promised_candidate, "--out", tmp_path / "x.lsb", "--key", key_pair[0]),
        *("--max-escape", "0.01", "--date", "2026-11-21"),
    )
    error = refused(done, GuaranteeError)
    assert (error.bad_parts, error.parts_missing) == (bad, 299 - bad)
    for words in (
        f"there are {bad} bad assurance parts",
        "at most 1 % with 95 % confidence",
        "even if none of them is judged OK, 299 are needed",
        f"bring {299 - bad} more bad parts",
        f"{100 * (1 - 0.05 ** (1 / bad)):.3g} % if none of them escapes",
    ):
        assert words in str(error)
    assert "ONNX graph" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_misses_is_refused_with_its_misses(
    promised_candidate: Path, small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Every part is bad, whatever the model says of it."""
    samples = read_samples(promised_candidate / "samples.npz")["assurance"]
    folder = with_assurance(
        small_candidate, tmp_path / "candidate", samples.frames_hwc, np.ones(len(samples))
    )
    arguments = (folder, "--out", tmp_path / "x.lsb", "--key", key_pair[0], *QUICK)
    done = run(*arguments, "--max-escape", "0.0102", *PROMISE[2:])
    error = refused(done, GuaranteeError)
    assert error.bad_parts == 300
    assert error.escaped > 0
    assert f"of 300 bad assurance parts {error.escaped} are judged OK at the safest" in str(error)
    assert "would not help" in str(error)
    assert "computed by" in done.output
    assert not (tmp_path / "x.lsb").exists()
    figures = tmp_path / "why"
    again = run(*arguments, "--max-escape", "0.0102", *PROMISE[2:], "--report", figures)
    refused(again, GuaranteeError)
    assert json.loads((figures / "guarantee.json").read_text())["guarantee"] is None


def test_without_assurance_samples_the_trainer_s_setting_is_named(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    done = run(small_candidate, "--out", tmp_path / "x.lsb", "--key", key_pair[0], *PROMISE)
    assert "data.assurance_share" in str(refused(done, CandidateError))


def test_what_counts_as_a_part_is_not_read_off_the_assurance_parts(
    promised_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(promised_candidate, tmp_path / "candidate"))
    sets = read_samples(folder / "samples.npz")
    for name, images in (("validation", 1), ("assurance", 2)):
        samples = sets[name]
        parts = [f"{name}-{index // images}" for index in range(len(samples))]
        sets[name] = dataclasses.replace(samples, parts=parts)
    write_samples(folder / "samples.npz", sets)
    arguments = (folder, "--out", tmp_path / "x.lsb", "--key", key_pair[0], *QUICK)
    error = refused(run(*arguments, *PROMISE), ExportError)
    assert "no validation part has" in str(error)
    assert run(*arguments, *PROMISE, "--part-images", "each").exit_code == 0


def test_without_bad_parts_nothing_can_be_chosen(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = (small_candidate, "--out", tmp_path / "x.lsb", "--key", key_pair[0])
    done = run(*arguments, "--rule", "best-f1", "--limit", "100")
    assert "no bad part" in str(refused(done, ExportError))
    done = run(*arguments, "--max-overkill", "0.1", "--limit", "-100")
    assert "no good part" in str(refused(done, ExportError))


def test_options_that_do_not_go_together_are_told(
    small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base = (small_candidate, "--out", tmp_path / "x.lsb", "--key", key_pair[0])
    for options, words in (
        (("--rule", "recall"), "--rule recall needs --min-recall"),
        (("--min-recall", "0.9"), "--min-recall belongs to --rule recall"),
        (("--rule", "cost", "--cost-escape", "1"), "needs --cost-overkill"),
        (("--cost-review", "1"), "--cost-review belongs to --rule cost"),
        (("--confidence", "0.9"), "--confidence belongs to --max-escape"),
        (("--date", "2026-11-21"), "--date belongs to --max-escape"),
        (("--max-escape", "0.1"), "no clock is read"),
        (("--max-escape", "0.1", "--date", "tomorrow"), "give YYYY-MM-DD"),
        (("--max-escape", "0", "--date", "2026-11-21"), "--max-escape"),
        (("--max-escape", "nan", "--date", "2026-11-21"), "--max-escape"),
        (("--rule", "luck"), "luck"),
    ):
        done = CliRunner().invoke(
            export, [str(a) for a in (*base, *options)], env={"SOURCE_DATE_EPOCH": None}
        )
        assert done.exit_code == 2, (options, done.output, done.exception)
        assert words in done.output
    done = CliRunner().invoke(
        export,
        [str(argument) for argument in (*base, "--max-escape", "0.1")],
        env={"SOURCE_DATE_EPOCH": "soon"},
    )
    assert "give seconds since 1970" in done.output


quarters = st.integers(0, 12).map(lambda x: x / 4)
scores = st.lists(quarters, min_size=1, max_size=40)
maybe = st.lists(quarters, max_size=40)  # validation parts may all be unknown


def parts_of(bad: list[float], good: list[float]) -> tuple[PartScores, ...]:
    found = {"bad": np.array(bad, float), "good": np.array(good, float)}
    return (PartScores(engine="onnxruntime", precision="int8", **found),)


@settings(max_examples=20)
@given(bad=scores, good=maybe, seen=maybe, limit=quarters)
def test_lower_is_worse_mirrors_higher_is_worse_and_never_loosens(
    bad: list[float], good: list[float], seen: list[float], limit: float
) -> None:
    """Scores of parts are turned already; the rule's own limits are not."""
    promise = Promise(max_escape=0.3, confidence=0.6, date="2026-11-21")
    validation, assurance = parts_of(seen, good), parts_of(bad, good)
    higher = LimitRule(ok_limit=limit, not_ok_limit=limit)
    lower = LimitRule(ok_limit=-limit, not_ok_limit=-limit, worse="lower")
    proofs = [
        examine_limits(rule, promise, validation=validation, assurance=assurance)
        for rule in (higher, lower)
    ]
    np.testing.assert_array_equal(proofs[0].limits, proofs[1].limits)
    assert proofs[0].proven == proofs[1].proven
    if proofs[0].proven:
        assert proofs[0].loosest <= limit
    points = [
        trace(rule, promise, proof, validation)
        for rule, proof in zip((higher, lower), proofs, strict=True)
    ]
    for up, down in zip(*points, strict=True):
        assert (up.ok_limit, up.escaped) == (-down.ok_limit, down.escaped)
        assert up.validation_review == down.validation_review


def test_a_form_that_fails_at_its_own_limits_is_given_up_for_the_next(
    new_candidate: Callable[..., Path], key_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """int8 holds where the float program's scores put the limit, and flips where its own do."""
    folder = new_candidate(tmp_path / "moved", seed=4)
    arguments = (folder, "--out", tmp_path / "x.lsb", "--key", key_pair[0], "--json")
    arguments += ("--engines", "onnxruntime", "--rule", "best-f1", "--max-drop", "5")
    done = CliRunner().invoke(
        export, [*map(str, arguments), "--precision", "int8,fp16", "--max-flips", "0"]
    )
    assert done.exit_code == 0, done.exception
    forms = {form["precision"]: form for form in json.loads(done.stdout)["forms"]}
    assert forms["fp16"]["sealed"] and not forms["int8"]["sealed"]
    assert "at the limits that its own scores suggest" in forms["int8"]["missed_gates"][0]
