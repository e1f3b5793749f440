"""The limits that a device judges by: the sealed ones, its own tighter ones, or an override's.

A device may tighten the sealed rule by its settings, and never loosen it but by a signed override.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from lineside.bundle import Bundle, Override, TrustedKeys, read_override
from lineside.contract import LimitRule
from lineside.decide import find_loosening
from lineside.errors import ConfigurationError, OverrideError

LimitSource = Literal["sealed", "tightened", "override"]


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[limits]``: what a device changes of the sealed rule.

    Attributes:
        ok: scores up to here are ``OK``, in the rule's unit; absent: as it is.
        not_ok: scores beyond this are ``NOT_OK``, in the rule's unit; absent: as it is.
        override: a file that the factory signed; its limits take the place of the sealed ones, and
            ``ok`` and ``not_ok`` may tighten those.
    """

    ok: float | None = None
    not_ok: float | None = None
    override: Path | None = None

    def __post_init__(self) -> None:
        for key in ("ok", "not_ok"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{key} = {value} is not a finite number")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What applies, and why.

    Attributes:
        sealed: the rule of the bundle.
        effective: what scores are held against.
        override: what allows the difference; ``None``: the effective rule only tightens.
        proven_ok_limit: the loosest OK limit for which the bundle promises a share of escapes, in
            the rule's unit; ``None`` where it promises nothing.
    """

    sealed: LimitRule
    effective: LimitRule
    override: Override | None = None
    proven_ok_limit: float | None = None

    @property
    def source(self) -> LimitSource:
        """Where the effective rule comes from, in a word."""
        if self.override is not None:
            return "override"
        return "sealed" if self.effective == self.sealed else "tightened"

    @property
    def keeps_promise(self) -> bool:
        """Whether what the bundle promises on escapes, if anything, holds for these limits."""
        if self.proven_ok_limit is None:
            return True
        sign = 1.0 if self.sealed.worse == "higher" else -1.0
        return sign * self.effective.ok_limit <= sign * self.proven_ok_limit

    def told(self) -> tuple[str, ...]:
        """One line for each change from the sealed rule, for a log; none where nothing changed."""
        unit = "" if self.sealed.unit == "1" else f" {self.sealed.unit}"
        lines = [
            f"{field} {now}{unit} instead of the sealed {before}{unit}"
            for field in ("ok_limit", "not_ok_limit")
            if (now := getattr(self.effective, field)) != (before := getattr(self.sealed, field))
        ]
        if self.override is not None:
            terms, signer = self.override.terms, self.override.signer
            lines.append(
                f"override by {terms.by}, {terms.date}, signed by key {signer.key_id.hex()}: "
                f"{terms.reason}"
            )
        if not self.keeps_promise:
            lines.append(
                f"the bundle's promise on escapes does not hold: it is proven up to ok_limit "
                f"{self.proven_ok_limit}{unit}"
            )
        return tuple(lines)


def settle_limits(bundle: Bundle, settings: LimitSettings, *, trusted: TrustedKeys) -> Limits:
    """Find the limits to judge by, or refuse the settings.

    Args:
        bundle: opened and checked.
        settings: what the device changes.
        trusted: whose override counts.

    Raises:
        ConfigurationError: a limit would let pass what the sealed rule, or the override, does not;
            or the limits cross.
        OverrideError: the override is refused.
    """
    sealed, guarantee = bundle.manifest.rule, bundle.manifest.evidence.guarantee
    override = None
    if settings.override is not None:
        override = read_override(settings.override, bundle=bundle, trusted=trusted)
        _refuse_other_scale(sealed, override, Path(settings.override))
    return Limits(
        sealed=sealed,
        effective=tighten(sealed if override is None else override.terms.rule, settings),
        override=override,
        proven_ok_limit=None if guarantee is None else guarantee.ok_limit,
    )


def tighten(rule: LimitRule, settings: LimitSettings) -> LimitRule:
    """The rule with the limits of the settings. Pure.

    Raises:
        ConfigurationError: it would judge a score milder than ``rule`` does, or the limits cross.
    """
    proposed = change_limits(rule, ok=settings.ok, not_ok=settings.not_ok)
    told = find_loosening(rule, proposed)
    if told:
        path = "limits.ok" if told.startswith("ok_limit") else "limits.not_ok"
        remedy = (
            "have the factory sign an override (lineside bundle override) and name it as "
            "limits.override"
            if settings.override is None
            else f"the limits of {settings.override} stand for the sealed ones; have another signed"
        )
        raise ConfigurationError(f"{path}: {told}. To loosen it: {remedy}", path=path)
    return proposed


def strictest(rule: LimitRule, *, ok: float | None, not_ok: float | None) -> LimitRule:
    """Of each limit the stricter one: the rule's, or the one given. Pure; always a tightening.

    Where they would cross, the OK limit gives way to the other.

    Args:
        rule: what must not be loosened.
        ok, not_ok: finite, in its unit; ``None``: the rule's.
    """
    sign = rule.sign

    def stricter(one: float, other: float | None) -> float:
        return one if other is None or sign * one <= sign * other else other

    not_ok_limit = stricter(rule.not_ok_limit, not_ok)
    ok_limit = stricter(stricter(rule.ok_limit, ok), not_ok_limit)
    return msgspec.structs.replace(rule, ok_limit=ok_limit, not_ok_limit=not_ok_limit)


def change_limits(rule: LimitRule, *, ok: float | None, not_ok: float | None) -> LimitRule:
    """The rule with other limits, looser or tighter; ``None`` leaves one as it is.

    Raises:
        ConfigurationError: not finite, or the limits cross.
    """
    try:
        wanted = LimitSettings(ok=ok, not_ok=not_ok)
        return msgspec.structs.replace(
            rule,
            ok_limit=rule.ok_limit if wanted.ok is None else wanted.ok,
            not_ok_limit=rule.not_ok_limit if wanted.not_ok is None else wanted.not_ok,
        )
    except ValueError as error:
        raise ConfigurationError(f"limits: {error}", path="limits") from error


def _refuse_other_scale(sealed: LimitRule, override: Override, file: Path) -> None:
    rule = override.terms.rule
    if (rule.worse, rule.unit) != (sealed.worse, sealed.unit):
        raise OverrideError(
            f"{file}: override of limits: for scores in {rule.unit!r}, {rule.worse} being worse; "
            f"sealed is {sealed.unit!r}, {sealed.worse} being worse",
            file=file,
        )
