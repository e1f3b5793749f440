"""Drift while the station runs: parts are added, alarms noted, and evidence outlives restarts."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from lineside.drift import DriftMonitor
from lineside.durable import write_durably
from lineside.errors import InputDataError, StorageError
from lineside.outbox import Note, Notebook
from lineside.station.drift import drift_figures, part_statistics
from lineside.station.giving import Judgement
from lineside.station.products import Product, Products
from lineside.station.regions import cut_frames
from lineside.station.turn import Turn

_LIMIT_BYTES = 2**24


class DriftKeeper:
    """One monitor a product, and a file beside the outbox that remembers them.

    Attributes:
        fault: why the evidence is not remembered, ``""`` when it is.

    Args:
        products: with their monitors.
        file: of the evidence; one that is damaged or of other bundles is passed over.
        journal: hears of alarms.
    """

    def __init__(self, products: Products, file: Path, journal: Notebook) -> None:
        self.fault = ""
        self._products = products
        self._file = file
        self._journal = journal
        self._saving = threading.Lock()
        self._telling = threading.Lock()  # parts come from one thread, what was mended from another
        # By bundle and statistic: a bundle on trial has alarms of its own.
        self._told: set[tuple[str, str]] = set()
        self._restore()

    @property
    def alarm(self) -> bool:
        """Some product drifts, and nobody has said that it was mended."""
        return any(monitor.alarms for _, monitor in self._watched())

    @property
    def figures(self) -> Mapping[str, float | int | str | None]:
        """For health: of the product in use."""
        return drift_figures(self._products.active.drift)

    def add(self, turn: Turn, judgement: Judgement) -> bool:
        """Whether this part's frame shows a drift; after its verdict was given."""
        monitor, contract = judgement.product.drift.monitor, judgement.product.contract
        frame = turn.capture.frame
        if monitor is None or contract is None or frame is None or not judgement.inspections:
            return False
        drifting = False
        seen = cut_frames(frame, judgement.product.regions)
        for picture, inspection in zip(seen, judgement.inspections, strict=True):
            statistics = part_statistics(
                picture.pixels_hwc,
                contract.frame,
                score=inspection.verdict.score,
                outputs=inspection.outputs,
            )
            monitor.add(statistics, part_id=turn.capture.part_id)
            drifting = drifting or monitor.is_drifting(statistics)
        self._tell(judgement.product, monitor)
        return drifting

    def mended(self, product: str) -> None:
        """Take the alarms of a product back, or of all (``""``)."""
        for watched, monitor in self._watched():
            if product in ("", watched.name):
                monitor.reset()
                with self._telling:
                    self._told = {one for one in self._told if one[0] != watched.card.bundle}
        self.save()  # a power cut must not bring the alarm back

    def save(self) -> None:
        """Remember the evidence; a disk that does not take it is a fault in words, not raised."""
        saved = {watched.name: monitor.save() for watched, monitor in self._watched()}
        if not saved:
            return
        try:
            with self._saving:
                write_durably(self._file, [msgspec.msgpack.encode(saved)])
            self.fault = ""
        except StorageError as error:
            self.fault = f"what was seen of drift is not remembered: {error}"

    def _restore(self) -> None:
        try:
            if not self._file.exists():
                return
            if os.path.getsize(self._file) > _LIMIT_BYTES:  # noqa: PTH202 - one call, one fault
                raise InputDataError(f"{self._file}: too large")
            saved = msgspec.msgpack.decode(self._file.read_bytes(), type=dict[str, bytes])
        except (OSError, msgspec.DecodeError, InputDataError) as error:
            self.fault = f"drift begins anew: {self._file}: {error}"
            return
        for watched, monitor in self._watched():
            if watched.name in saved:
                # Of another bundle, form or settings: it begins anew, as the document says.
                with contextlib.suppress(InputDataError):
                    monitor.restore(saved[watched.name])
            self._told |= {(watched.card.bundle, alarm) for alarm in monitor.alarms}

    def _watched(self) -> Iterator[tuple[Product, DriftMonitor]]:
        for product in self._products:
            if product.drift.monitor is not None:
                yield product, product.drift.monitor

    def _loaded(self) -> set[str]:
        """Bundles: what was told of others is forgotten, however many are tried."""
        behind = (p.on_trial.behind for p in self._products if p.on_trial is not None)
        return {one.card.bundle for one in (*self._products, *behind) if one is not None}

    def _tell(self, product: Product, monitor: DriftMonitor) -> None:
        bundle = product.card.bundle
        if all((bundle, name) in self._told for name in monitor.alarms):
            return
        for statistic in monitor.state.statistics:
            key = (bundle, statistic.name)
            if statistic.alarm and key not in self._told:
                body = {"product": product.name, **msgspec.to_builtins(statistic)}
                if self._journal.note(Note(kind="drift", body=msgspec.json.encode(body))):
                    loaded = self._loaded()
                    with self._telling:
                        self._told = {one for one in self._told if one[0] in loaded} | {key}
