"""What a bundle calls itself."""

from __future__ import annotations

import msgspec

from lineside.bundle import Identity
from lineside.contract import Contract
from lineside_export.errors import ExportError


def make_identity(
    contract: Contract, *, version: str, security_counter: int, target: str
) -> Identity:
    """What the bundle will call itself, checked now and not after minutes of work.

    Raises:
        ExportError: a word that no manifest takes.
    """
    identity = Identity(
        product=contract.product,
        version=version,
        security_counter=security_counter,
        target=target,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(identity), Identity)
    except msgspec.ValidationError as error:
        raise ExportError(
            f"identity: {error}; give another --product-version, or train.product to the trainer"
        ) from error
