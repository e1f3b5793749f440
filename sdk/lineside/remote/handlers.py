"""What signed commands set in motion: the station does most itself, these two others bring.

They are called in the thread that works off signed commands, one after the other, never in the
publisher's (but for chunks, which are only handed over). What takes longer than a write to the disk
happens in a thread of one's own.
"""

from __future__ import annotations

from typing import Protocol

from lineside.mqtt.commands import Answer
from lineside.remote.gate import SignedCommand


class Handler(Protocol):
    """Does what a command says."""

    def __call__(self, command: SignedCommand) -> Answer | None:
        """Do it, durably, or say why not.

        Returns:
            ``None``: it goes on, and whoever goes on answers once it is done.

        Raises:
            RefusedError, InputDataError, ConfigurationError, BundleError, StorageError: it was not
                done; the message becomes the answer.
        """


class Receiving(Protocol):
    """Takes bundles that come from afar; `lineside.remote.receiving` is one.

    It answers by itself, through the ``answer`` that it was made with: ``chunk`` with the offset to
    go on at, and ``install`` at the end.
    """

    def start(self) -> None:
        """The station begins."""

    def check(self) -> None:
        """Raise what ended its thread, if something did."""

    def begin(self, command: SignedCommand) -> Answer | None:
        """``install`` (its ``args`` are `InstallArgs`): begin, or go on with what is there.

        Raises:
            As a `Handler`.
        """

    def chunk(self, payload: bytes) -> None:
        """A message of ``cmd/chunk``; not signed, bound to an ``install`` by its content.

        In the publisher's thread: it must not wait. What finds no room is dropped, and sent again.
        """

    def stop(self) -> None:
        """The station ends; what goes on is given up and gone on with later."""


class Slotting(Protocol):
    """Confirms and reverts what a store has on trial; the station's, of all products.

    Both return once it is durable.
    """

    def confirm(self, product: str, *, bundle: str) -> str:
        """The bundle on trial is good.

        Args:
            product: whose; ``""``: of the product in use.
            bundle: how its hash must begin; ``""``: whichever it is.

        Returns:
            What judges now, in words.

        Raises:
            RefusedError: nothing is on trial or another bundle, no such product, or no store.
            StorageError: the store takes nothing.
        """

    def revert(self, product: str, reason: str, *, bundle: str) -> str:
        """Back to the bundle before.

        Args:
            product: as of `confirm`.
            reason: what the store keeps as its reason.
            bundle: how the hash of that which is left must begin; ``""``: whichever it is.

        Returns:
            What judges now, in words.

        Raises:
            As `confirm`; DowngradeError: the one before is older than what was confirmed.
        """
