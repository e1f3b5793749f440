"""What hardware this machine says it is, and whether a bundle was made for it."""

from __future__ import annotations

from lineside.doctor.check import Check, State
from lineside.errors import ConfigurationError, TargetError
from lineside.installing import check_target, machine_targets


def check_machine_targets() -> Check:
    """The words that an install holds a bundle's target against."""
    try:
        words = machine_targets()
    except ConfigurationError as error:
        return Check(
            topic="target",
            state=State.WARNING,
            found=f"{error}; until then no bundle is installed",
            remedy="write e.g. cpu or jetson there, or take it out: docs/slots.md",
        )
    return Check(topic="target", state=State.OK, found=", ".join(words))


def check_bundle_target(sealed: str, source: str) -> list[Check]:
    """A warning where a bundle that is in use was made for other hardware: it may be too slow."""
    try:
        check_target(sealed, machine_targets(), source=source)
    except TargetError as error:
        remedy = "lineside bench measures whether it is fast enough here; docs/slots.md"
        return [Check(topic="target", state=State.WARNING, found=str(error), remedy=remedy)]
    except ConfigurationError:
        return []  # which `check_machine_targets` says
    return []
