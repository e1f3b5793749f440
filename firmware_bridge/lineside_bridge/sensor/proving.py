"""The golden self-test beside the server: with the real engine, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lineside.choose import list_candidates, open_proven
from lineside.engines import EngineSettings
from lineside.errors import LinesideError, SelfTestError
from lineside.slots import PowerCut
from lineside_bridge.custom import SelfTestReport
from lineside_bridge.sensor.contents import Contents

# Of all forms of the model that were tried; what does not fit an answer is cut there.
_WORDS_LETTERS = 2000

Judge = Callable[[Contents, str], str]
"""A bundle and its name to what is wrong with it; nothing: it passes."""


def judge_by_engine(contents: Contents, name: str, *, engine: str) -> str:
    """Open the forms for this engine one after the other, until one passes; no network, no files.

    Args:
        engine: ``onnxruntime``, ``openvino`` or ``auto``.
    """
    refused = []
    try:
        with contents.open(name) as bundle:
            ways, _ = list_candidates(bundle, engine=engine, precision=None, threads=1)
            for model, candidate in ways:
                try:
                    open_proven(bundle, model, candidate, EngineSettings()).close()
                except SelfTestError as error:
                    refused.append(str(error))
                else:
                    return ""
    except LinesideError as error:
        refused.append(str(error))
    return "; ".join(refused) or f"{name}: no engine {engine} runs here"


class Prover:
    """One test at a time; a later order replaces what an earlier one found.

    Args:
        judge: what a bundle must hold before.
        threaded: in a thread of its own; else `start` returns when it is over.
    """

    def __init__(self, judge: Judge, *, threaded: bool = True) -> None:
        self._judge = judge
        self._threaded = threaded
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._report = SelfTestReport(state="none")
        self._number = 0
        self._threads: list[threading.Thread] = []

    @property
    def report(self) -> SelfTestReport:
        """Of the last order."""
        with self._lock:
            return self._report

    def wait(self, timeout_s: float) -> SelfTestReport:
        """The same, once it is over; ``running`` where it is not in time."""
        if self.report.state == "running":
            self._ended.wait(timeout_s)
        return self.report

    def start(
        self,
        contents: Contents,
        name: str,
        ended: Callable[[Contents, str], None] = lambda _contents, _words: None,
    ) -> None:
        """Prove a bundle.

        Args:
            contents: which.
            name: stands for its file in messages.
            ended: told what is wrong (nothing: it passed), in the thread of the test; not where
                another order came.
        """
        with self._lock:
            self._number += 1
            number = self._number
            self._ended.clear()
            bundle_hash = bytes.fromhex(contents.checked.hash)
            self._report = SelfTestReport(state="running", hash=bundle_hash)
        if not self._threaded:
            self._run(number, contents, name, ended)
            return
        arguments = (number, contents, name, ended)
        thread = threading.Thread(
            target=self._run_apart, args=arguments, name="self-test", daemon=True
        )
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def forget(self) -> None:
        """The sensor starts again: whatever still runs is of before."""
        with self._lock:
            self._number += 1
            self._report = SelfTestReport(state="none")

    def close(self, timeout_s: float) -> None:
        """Wait until none runs: a process that ends within an engine's code is aborted."""
        self.forget()
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _run_apart(
        self, number: int, contents: Contents, name: str, ended: Callable[[Contents, str], None]
    ) -> None:
        try:
            self._run(number, contents, name, ended)
        except PowerCut:
            return  # the server finds the power off by itself

    def _run(
        self, number: int, contents: Contents, name: str, ended: Callable[[Contents, str], None]
    ) -> None:
        words = self._judge(contents, name)
        with self._lock:
            if number != self._number:
                return
        # Before the report: whoever reads "failed" finds the bundle reverted.
        ended(contents, words)
        with self._lock:
            if number != self._number:
                return
            self._report = SelfTestReport(
                state="failed" if words else "passed",
                hash=self._report.hash,
                words=words[:_WORDS_LETTERS],
            )
            self._ended.set()
