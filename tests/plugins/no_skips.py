"""A skip is a failure: a test that did not run has shown nothing.

Turns skipped, expectedly failed and unexpectedly passed reports into failures, collection included.
Loaded by `-p no_skips` (root pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped, was expected to fail, or passed though expected to fail."""
    report = yield
    if report.skipped or hasattr(report, "wasxfail"):
        _fail(report, getattr(report, "wasxfail", None) or _reason(report))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips itself as a whole."""
    report = yield
    if report.skipped:
        _fail(report, _reason(report))
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _fail(report: pytest.TestReport | pytest.CollectReport, reason: str) -> None:
    report.__dict__.pop("wasxfail", None)
    report.outcome = "failed"
    report.longrepr = f"a skip counts as a failure here: {reason}"
