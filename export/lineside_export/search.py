"""Find, for each engine, the fastest form that holds the gates.

Forms are tried in the target's order, the fastest first as a rule, those of few bits that take
minutes to make behind the quicker ones. The order is fixed, so that the same candidate gives the
same forms on every machine; `--sweep` makes all, measures, and takes the fastest on this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import LimitRule
from lineside.errors import EngineError
from lineside_export.candidate import Candidate
from lineside_export.costs import Cost
from lineside_export.deciding import RuleWish, scored_parts
from lineside_export.errors import ExportError, GateError, GraphError
from lineside_export.formats import AS_ON_DEVICE, FLOAT, Format, Way
from lineside_export.gates import Gates, missed_by, missed_by_rates
from lineside_export.parity import Comparison, Measurement, compare, measure
from lineside_export.partscores import count_parts
from lineside_export.schemes import SCHEMES, Material, Scheme, find_scheme
from lineside_export.targets import Target

AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One form, and what became of it.

    Attributes:
        engine, precision: which.
        made: it; ``None`` where it could not be made.
        comparison: beside the float program on the validation samples; ``None`` likewise.
        missed: one sentence for each gate it misses, or why it could not be made.
        asked: whether it may be sealed; the float form is tried unasked, to judge the others by.
        given_up: why it did not hold at the limits that its own scores suggest; stays in `missed`.
        chosen: whether it is the one to be sealed for its engine.
        cost: what it costs on this machine; ``None`` where that was not measured.
    """

    engine: str
    precision: str
    made: Format | None = None
    comparison: Comparison | None = None
    missed: tuple[str, ...] = ()
    asked: bool = True
    given_up: tuple[str, ...] = ()
    chosen: bool = False
    cost: Cost | None = None

    @property
    def label(self) -> str:
        """For people, e.g. ``openvino int8``."""
        return f"{self.engine} {self.precision}"

    @property
    def holds(self) -> bool:
        """Whether it was measured and misses no gate."""
        return self.comparison is not None and not self.missed


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures forms on one sample set and holds them against the gates.

    Attributes:
        candidate: whose samples.
        set_name: which of its sets.
        images_nhwc: (N, H, W, C) uint8: that set, as model input.
        reference: the float program on them.
        rule: the limits.
        wish: says which parts are bad; ``None``: escapes and overkill are not judged.
        gates: the bounds.
    """

    candidate: Candidate
    set_name: str = "validation"
    images_nhwc: NDArray[np.uint8]
    reference: Measurement
    rule: LimitRule
    wish: RuleWish | None = None
    gates: Gates = field(default_factory=Gates)

    def judge(self, made: Format) -> Tried:
        """Run it on this machine, as a device would."""
        entry = made.entry
        tried = Tried(engine=entry.engine, precision=entry.precision, made=made)
        try:
            comparison = self.compare(made)
        except (EngineError, GateError) as error:
            return replace(tried, missed=(str(error),))
        return replace(tried, comparison=comparison, missed=self._missed(comparison))

    def judging_by(self, rule: LimitRule) -> Judge:
        """The same with other limits."""
        return replace(self, rule=rule, reference=self.reference.judged(rule))

    def again(self, tried: Tried) -> Tried:
        """What was measured, judged by these limits; chosen stays chosen."""
        if tried.comparison is None:
            return tried
        comparison = compare(self.reference, tried.comparison.measured.judged(self.rule))
        missed = (*tried.given_up, *self._missed(comparison))
        return replace(tried, comparison=comparison, missed=missed)

    def _missed(self, found: Comparison) -> tuple[str, ...]:
        missed = missed_by(found, self.reference, self.rule, self.gates)
        if self.wish is None or found.measured.precision == FLOAT:
            return missed
        scored = scored_parts(
            self.candidate, self.set_name, [self.reference, found.measured], self.wish
        )
        before, now = (count_parts(parts, self.rule) for parts in scored)
        return (*missed, *missed_by_rates(before, now, self.gates))

    def compare(self, made: Format, way: Way = AS_ON_DEVICE) -> Comparison:
        """The form, computed in one way, beside the float program.

        Raises:
            GateError: it gives NaN.
            EngineError: its engine refuses it.
        """
        measured = measure(
            made.entry.engine,
            made.entry.precision,
            made.infer(self.images_nhwc, self.candidate, way),
            targets=self.candidate.samples[self.set_name].targets,
            contract=self.candidate.contract,
            rule=self.rule,
            way=way,
        )
        return compare(self.reference, measured)


def wished_schemes(asked: Sequence[str], target: Target, engine: str) -> list[Scheme]:
    """What to try for an engine, in order.

    Args:
        asked: names; `AUTO` stands for what makes sense on the target.
        target: the hardware.
        engine: forms that it does not know are left out.

    Raises:
        ExportError: an unknown name, or none that the engine knows.
    """
    names = [
        name for word in asked for name in (target.precisions[engine] if word == AUTO else (word,))
    ]
    schemes = [find_scheme(name) for name in dict.fromkeys(names)]
    known = [scheme for scheme in schemes if engine in scheme.build]
    if not known:
        able = ", ".join(name for name, scheme in SCHEMES.items() if engine in scheme.build)
        raise ExportError(
            f"{engine} knows none of {', '.join(names)}; it knows {able}: give another "
            "--precision, or leave the engine out with --engines"
        )
    return known


def search(
    engine: str,
    schemes: Sequence[Scheme],
    material: Material,
    judge: Judge,
    *,
    known: Sequence[Tried] = (),
    progress: Callable[[str], None],
    all_of_them: bool = False,
) -> list[Tried]:
    """Try forms for one engine until one holds; the float form is always among them.

    Args:
        engine: for whom.
        schemes: in the order in which to try them.
        material: what forms are made of.
        judge: measures them.
        known: what was tried for this engine before, and is not made again.
        progress: told what is being done.
        all_of_them: go on when one holds.

    Returns:
        All that were tried; the first that holds is marked as chosen.
    """
    # The float form shows whether the translation is right, and how far rounding goes.
    tried = {found.precision: found for found in known} or {
        FLOAT: _try(engine, SCHEMES[FLOAT], material, judge, progress)
    }
    for scheme in schemes:
        if scheme.precision not in tried:
            tried[scheme.precision] = _try(engine, scheme, material, judge, progress)
        if tried[scheme.precision].holds and not all_of_them:
            break
    names = [scheme.precision for scheme in schemes]
    chosen = next((name for name in names if name in tried and tried[name].holds), "")
    return [
        replace(found, asked=name in names, chosen=name == chosen) for name, found in tried.items()
    ]


def sealed_forms(tried: Sequence[Tried], *, with_floats: bool = False) -> tuple[Format, ...]:
    """The forms that were chosen, as files; with the float forms that were measured beside them."""
    return tuple(
        found.made
        for found in tried
        if found.made is not None
        and found.comparison is not None
        and (found.chosen or (with_floats and found.precision == FLOAT))
    )


def take_fastest(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Mark for each engine the fastest that was asked for and holds, by its measured cost."""
    fastest: dict[str, Tried] = {}
    for found in tried:
        if not (found.asked and found.holds) or found.cost is None:
            continue
        best = fastest.get(found.engine)
        if best is None or best.cost is None or found.cost.p50_us < best.cost.p50_us:
            fastest[found.engine] = found
    return tuple(replace(f, chosen=fastest.get(f.engine) is f) for f in tried)


def _try(
    engine: str,
    scheme: Scheme,
    material: Material,
    judge: Judge,
    progress: Callable[[str], None],
) -> Tried:
    progress(f"{engine} {scheme.precision}: {scheme.about}")
    try:
        made = scheme.build[engine](material)
    except GraphError as error:
        return Tried(engine=engine, precision=scheme.precision, missed=(str(error),))
    return judge.judge(made)
