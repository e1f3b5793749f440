"""Which form each engine gets, where the limits hang on the forms and the forms on the limits.

Gates are held at limits, and limits may be chosen by the scores of the very forms that are sealed.
So forms are searched at the limits that the float program's scores suggest; then limits are chosen
by the scores of the forms found, and a form that does not hold at these is given up for the next.
Only validation samples have a say: a promise comes afterwards, and moves no form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lineside_export.candidate import Candidate
from lineside_export.costs import measure_costs
from lineside_export.deciding import choose_limits, scored_parts
from lineside_export.formats import Source
from lineside_export.order import Order
from lineside_export.schemes import SCHEMES, Material, gather_material
from lineside_export.search import AUTO, Judge, Tried, search, take_fastest, wished_schemes

Progress = Callable[[str], None]


def choose_forms(
    candidate: Candidate, source: Source, order: Order, judge: Judge, progress: Progress
) -> tuple[Judge, tuple[Tried, ...]]:
    """Try forms until those chosen hold at the limits that their own scores suggest.

    Args:
        candidate: whose samples.
        source: its float program.
        order: what is asked.
        judge: at the limits that the float program's scores suggest.
        progress: told what is being done.

    Returns:
        The judge at the limits of the chosen forms, and all that were tried; an engine for which
        none holds has none that is chosen.

    Raises:
        ExportError: no limit does what was wished for.
    """
    material = gather_material(candidate, source, order.target)
    tried: tuple[Tried, ...] = ()
    while True:
        tried = _try_forms(material, order, judge, tried, progress)
        if engines_without(order.engines, tried):
            return judge, tried
        chosen = [f.comparison.measured for f in tried if f.chosen and f.comparison is not None]
        scored = scored_parts(candidate, "validation", chosen, order.wish)
        rule = choose_limits(scored, order.wish, candidate.contract.head)
        if rule == judge.rule:
            return judge, tried
        moved = judge.judging_by(rule)
        again = tuple(moved.again(found) for found in tried)
        if not engines_without(order.engines, again):
            return moved, again
        # At least one is given up in each round, so this ends.
        tried = tuple(_given_up(old, new) for old, new in zip(tried, again, strict=True))


def engines_without(engines: Sequence[str], tried: Sequence[Tried]) -> list[str]:
    """Engines of which no form is chosen and holds."""
    return [
        engine
        for engine in engines
        if not any(f.chosen and f.holds for f in tried if f.engine == engine)
    ]


def _given_up(old: Tried, new: Tried) -> Tried:
    if not old.chosen or new.holds:
        return old
    why = tuple(f"at the limits that its own scores suggest: {words}" for words in new.missed)
    return replace(old, chosen=False, missed=why, given_up=why)


def _try_forms(
    material: Material, order: Order, judge: Judge, known: Sequence[Tried], progress: Progress
) -> tuple[Tried, ...]:
    """Every engine's forms, as far as they have to be tried; with a sweep all, and their costs."""
    everything = order.sweep and tuple(order.precisions) == (AUTO,)
    # The target's own first: where nothing can be measured, its order decides.
    asked = (AUTO, *SCHEMES) if everything else order.precisions
    tried: list[Tried] = []
    for engine in order.engines:
        tried += search(
            engine,
            wished_schemes(asked, order.target, engine),
            material,
            judge,
            known=[found for found in known if found.engine == engine],
            progress=progress,
            all_of_them=order.sweep,
        )
    if not order.sweep:
        return tuple(tried)
    tried = _with_costs(tried, judge, material, progress)
    # This machine's latencies say nothing about another kind of processor.
    return tuple(tried) if order.target.unchecked else take_fastest(tried)


def _with_costs(
    tried: Sequence[Tried], judge: Judge, material: Material, progress: Progress
) -> list[Tried]:
    unmeasured = [f for f in tried if f.comparison is not None and f.cost is None]
    forms = [found.made for found in unmeasured if found.made is not None]
    if not forms:
        return list(tried)
    costs = measure_costs(forms, judge.images_nhwc, material, progress)
    by_label = {made.label: cost for made, cost in zip(forms, costs, strict=True)}
    return [replace(found, cost=by_label.get(found.label, found.cost)) for found in tried]
