"""Two forms of one model behind one protocol: one frame at a time, and several at once."""

from __future__ import annotations

from threading import Lock

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.engines.protocol import Engine


class SeveralForm(msgspec.Struct, frozen=True, kw_only=True):
    """How several frames at once are computed.

    Attributes:
        batch: frames in one static batch.
        lanes: batches side by side, each by one thread; 1 takes the single form's threads.
        fill_from: so many frames that are left over are sooner computed as a batch that is filled
            up than one by one.
    """

    batch: int
    lanes: int
    fill_from: int = 1

    def told(self) -> str:
        """For people."""
        return f"batches of {self.batch}, {self.lanes} at a time"

    def split(self, count: int) -> int:
        """How many of ``count`` frames go in batches; the others one by one."""
        full, rest = divmod(count, self.batch)
        # A lane that would be idle computes the rest at no cost.
        if rest and (full % self.lanes or rest >= self.fill_from):
            return count
        return full * self.batch


class SeveralEngine:
    """One frame goes through the one form, several through the other; see `Engine`.

    Args:
        single: static batch 1.
        many: of the same model, opened as ``form`` says; both are closed with this one.
        form: of ``many``.
    """

    def __init__(self, single: Engine, many: Engine, form: SeveralForm) -> None:
        self.name = single.name
        self.precision = single.precision
        self.threads = single.threads
        self.description = f"{single.description}; several at once in {form.told()}"
        self._single = single
        self._many = many
        self._form = form
        # Two callers at once would take the cores from each other, and a single frame must not
        # wait longer than a batch.
        self._lock = Lock()

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Engine.infer`."""
        count = len(inputs_nhwc) if inputs_nhwc.ndim else 0
        at_once = self._form.split(count) if count > 1 else 0
        with self._lock:
            if at_once == 0:
                return self._single.infer(inputs_nhwc)
            outputs = self._many.infer(inputs_nhwc[:at_once])
            if at_once == count:
                return outputs
            others = self._single.infer(inputs_nhwc[at_once:])
        return {name: np.concatenate([outputs[name], others[name]]) for name in outputs}

    def close(self) -> None:
        """See `Engine.close`."""
        self._many.close()
        self._single.close()
