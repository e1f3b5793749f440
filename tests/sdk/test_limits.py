"""The limits of a device: tighter by its own settings, looser by a signed override alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import TinyBundle

import lineside
from lineside import LimitSettings
from lineside.bundle import Bundle, EscapeGuarantee, load_trust, open_bundle, seal_override
from lineside.contract import LimitRule
from lineside.decide import decide
from lineside.errors import ConfigurationError, OverrideError
from lineside.limits import Limits, change_limits, settle_limits, strictest, tighten
from lineside.verdict import Evaluation, Reason

SEVERITY = {Evaluation.OK: 0, Evaluation.NOT_DECIDABLE: 1, Evaluation.NOT_OK: 2}
TOLD = {"reason": "lot 17", "by": "J. Doe", "date": "2026-11-21"}
ANY_LIMIT = st.none() | st.integers(-3, 3).map(float) | st.floats()


@st.composite
def rules(draw: st.DrawFn) -> LimitRule:
    """So few limits that equal ones and changes of either one alone are common."""
    small = st.integers(-3, 3).map(float)
    first, second = sorted([draw(small), draw(small)])
    if draw(st.booleans()):
        return LimitRule(ok_limit=first, not_ok_limit=second)
    return LimitRule(ok_limit=second, not_ok_limit=first, worse="lower")


@given(sealed=rules(), ok=ANY_LIMIT, not_ok=ANY_LIMIT, score=st.floats())
def test_whatever_the_settings_say_no_score_is_judged_milder(
    sealed: LimitRule, ok: float | None, not_ok: float | None, score: float
) -> None:
    try:
        effective = tighten(sealed, LimitSettings(ok=ok, not_ok=not_ok))
    except (ConfigurationError, ValueError):
        return
    for one in (score, sealed.ok_limit, sealed.not_ok_limit, *(x for x in (ok, not_ok) if x)):
        assert SEVERITY[decide(one, effective)[0]] >= SEVERITY[decide(one, sealed)[0]]


@given(sealed=rules(), ok=ANY_LIMIT, not_ok=ANY_LIMIT)
def test_of_each_limit_the_stricter_one_makes_a_rule_that_is_no_milder(
    sealed: LimitRule, ok: float | None, not_ok: float | None
) -> None:
    if not all(one is None or math.isfinite(one) for one in (ok, not_ok)):
        return
    found = strictest(sealed, ok=ok, not_ok=not_ok)
    assert tighten(sealed, LimitSettings(ok=found.ok_limit, not_ok=found.not_ok_limit)) == found
    with_both = [one for one in (ok, not_ok) if one is not None]
    for one in (*with_both, sealed.ok_limit, sealed.not_ok_limit):
        assert SEVERITY[decide(one, found)[0]] >= SEVERITY[decide(one, sealed)[0]]
    try:
        asked = tighten(sealed, LimitSettings(ok=ok, not_ok=not_ok))
    except ConfigurationError:
        return
    assert found == asked, "what may be asked for is what one gets"


@given(sealed=rules(), proposed=rules())
def test_every_rule_that_is_no_milder_is_taken(sealed: LimitRule, proposed: LimitRule) -> None:
    if proposed.worse != sealed.worse:
        return
    sign = 1 if sealed.worse == "higher" else -1
    settings = LimitSettings(ok=proposed.ok_limit, not_ok=proposed.not_ok_limit)
    if (
        sign * proposed.ok_limit <= sign * sealed.ok_limit
        and sign * proposed.not_ok_limit <= sign * sealed.not_ok_limit
    ):
        assert tighten(sealed, settings) == proposed
    else:
        with pytest.raises(ConfigurationError):
            tighten(sealed, settings)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["ok", "not_ok"])
def test_what_is_no_number_is_no_limit(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} = .* is not a finite number"):
        LimitSettings(**{key: value})
    with pytest.raises(ConfigurationError, match="finite"):
        change_limits(
            LimitRule(ok_limit=0, not_ok_limit=0), **{"ok": None, "not_ok": 1, key: value}
        )


@pytest.fixture
def opened(tiny_bundle: TinyBundle) -> Iterator[Bundle]:
    with open_bundle(tiny_bundle.path, trust=tiny_bundle.public_key_path) as bundle:
        yield bundle


def settle(bundle: Bundle, tiny: TinyBundle, settings: LimitSettings) -> Limits:
    return settle_limits(bundle, settings, trusted=load_trust(tiny.public_key_path))


def signed(bundle: Bundle, tiny: TinyBundle, file: Path, *limits: float, unit: str = "K/W") -> Path:
    rule = LimitRule(ok_limit=limits[0], not_ok_limit=limits[1], unit=unit)
    seal_override(file, bundle=bundle, rule=rule, key=tiny.key(), **TOLD)
    return file


def test_nothing_asked_for_is_the_sealed_rule(opened: Bundle, tiny_bundle: TinyBundle) -> None:
    sealed = tiny_bundle.manifest.rule
    for settings in (LimitSettings(), LimitSettings(ok=0.5), LimitSettings(ok=0.5, not_ok=0.6)):
        found = settle(opened, tiny_bundle, settings)
        assert found == Limits(sealed=sealed, effective=sealed)
        assert (found.source, found.told()) == ("sealed", ())


def test_a_tightened_limit_is_told(opened: Bundle, tiny_bundle: TinyBundle) -> None:
    found = settle(opened, tiny_bundle, LimitSettings(ok=0.4))
    assert found.source == "tightened"
    assert found.effective == LimitRule(ok_limit=0.4, not_ok_limit=0.6, unit="K/W")
    assert found.told() == ("ok_limit 0.4 K/W instead of the sealed 0.5 K/W",)


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        (LimitSettings(ok=0.55), "limits.ok", "ok_limit 0.55 raises the sealed 0.5"),
        (LimitSettings(not_ok=0.7), "limits.not_ok", "not_ok_limit 0.7 raises the sealed 0.6"),
        (LimitSettings(ok=0.4, not_ok=0.7), "limits.not_ok", "lineside bundle override"),
        (LimitSettings(not_ok=0.4), "limits", "cross"),
        (LimitSettings(ok=0.8), "limits", "cross"),
    ],
)
def test_a_looser_limit_is_refused_with_the_remedy(
    opened: Bundle, tiny_bundle: TinyBundle, settings: LimitSettings, path: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settle(opened, tiny_bundle, settings)
    assert caught.value.path == path
    assert words in str(caught.value)


def test_an_override_loosens_and_settings_may_tighten_it(
    opened: Bundle, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    file = signed(opened, tiny_bundle, tmp_path / "x.override", 0.7, 0.9)
    found = settle(opened, tiny_bundle, LimitSettings(override=file))
    assert found.source == "override"
    assert (found.effective.ok_limit, found.effective.not_ok_limit) == (0.7, 0.9)
    key_id = tiny_bundle.key().public.key_id.hex()
    assert found.told() == (
        "ok_limit 0.7 K/W instead of the sealed 0.5 K/W",
        "not_ok_limit 0.9 K/W instead of the sealed 0.6 K/W",
        f"override by J. Doe, 2026-11-21, signed by key {key_id}: lot 17",
    )
    both = settle(opened, tiny_bundle, LimitSettings(ok=0.6, override=file))
    assert (both.source, both.effective.ok_limit) == ("override", 0.6)
    with pytest.raises(ConfigurationError, match=r"0\.8 raises the sealed 0\.7.*x\.override"):
        settle(opened, tiny_bundle, LimitSettings(ok=0.8, override=file))


def test_an_override_on_another_scale_is_refused(
    opened: Bundle, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    file = signed(opened, tiny_bundle, tmp_path / "x.override", 0.7, 0.9, unit="mm")
    with pytest.raises(OverrideError, match=r"'mm'.*'K/W'"):
        settle(opened, tiny_bundle, LimitSettings(override=file))


def test_an_override_beyond_what_is_proven_says_so(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    evidence = tiny_bundle.manifest.evidence
    guarantee = EscapeGuarantee(
        max_escape=0.01,
        confidence=0.95,
        ok_limit=0.52,
        escape_bound=0.009,
        limits_tested=1,
        limits_proven=1,
        assurance=(),
        unknown_samples=0,
        assurance_sha256="0" * 64,
        date="2026-11-20",
    )
    proven = msgspec.structs.replace(
        tiny_bundle.manifest, evidence=msgspec.structs.replace(evidence, guarantee=guarantee)
    )
    path = tiny_bundle.reseal(tmp_path / "proven.lsb", manifest=proven)
    with open_bundle(path, trust=tiny_bundle.public_key_path) as bundle:
        for ok_limit, kept in ((0.52, True), (0.53, False)):
            file = signed(bundle, tiny_bundle, tmp_path / "x", ok_limit, 0.6)
            found = settle(bundle, tiny_bundle, LimitSettings(override=file))
            assert found.keeps_promise is kept
            assert ("promise on escapes does not hold" in found.told()[-1]) is not kept


def test_a_tightened_limit_decides_and_the_engine_is_proved_by_the_sealed_rule(
    tiny_bundle: TinyBundle,
) -> None:
    # The golden frames of 0.2 are sealed as OK; by these limits they would be NOT_OK.
    limits = LimitSettings(ok=0.1, not_ok=0.15)
    with lineside.load(
        tiny_bundle.path, trust=tiny_bundle.public_key_path, threads=1, limits=limits
    ) as inspector:
        verdict = inspector.inspect(tiny_bundle.ok_frame_hwc)
        faulty = inspector.inspect(tiny_bundle.ok_frame_hwc[:5])
        assert inspector.limits.source == "tightened"
    assert (verdict.evaluation, verdict.reason) == (Evaluation.NOT_OK, Reason.BEYOND_LIMIT)
    assert verdict.limit == faulty.limit == 0.15
    with lineside.load(tiny_bundle.path, trust=tiny_bundle.public_key_path, threads=1) as inspector:
        assert inspector.inspect(tiny_bundle.ok_frame_hwc).evaluation is Evaluation.OK
        assert inspector.limits.source == "sealed"


def test_an_override_decides(opened: Bundle, tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    file = signed(opened, tiny_bundle, tmp_path / "x.override", 0.95, 0.96)
    with lineside.load(
        tiny_bundle.path,
        trust=tiny_bundle.public_key_path,
        threads=1,
        limits=LimitSettings(override=file),
    ) as inspector:
        verdict = inspector.inspect(tiny_bundle.not_ok_frame_hwc)
    assert (verdict.evaluation, verdict.limit) == (Evaluation.OK, 0.95)


def test_limits_are_settled_before_any_engine_is_tried(
    tiny_bundle: TinyBundle, private_cache: Path
) -> None:
    with pytest.raises(ConfigurationError):
        lineside.load(
            tiny_bundle.path, trust=tiny_bundle.public_key_path, limits=LimitSettings(ok=0.55)
        )
    assert not private_cache.exists()
