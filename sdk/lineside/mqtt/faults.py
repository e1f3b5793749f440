"""What goes wrong on a connection, in words and in our own errors."""

from __future__ import annotations

import re
import struct

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import MQTTErrorCode

from lineside.errors import BrokerError, BrokerRefusedError
from lineside.mqtt.tls import remedy_of

# What paho lets through when a peer sends nonsense: the packets are taken apart without checks.
FAULTS = (
    OSError,
    MQTTException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    struct.error,
)


def words_of(error: Exception) -> str:
    """An exception in words."""
    # Not `[Errno 111] …`: the number tells an operator nothing.
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


def words_of_code(code: MQTTErrorCode) -> str:
    """paho's words for its code."""
    return paho.error_string(code).removesuffix(".")  # a sentence there, a part of one here


def broker_error(address: object, words: str) -> BrokerError:
    """Ours for these words; one with a remedy where TLS is the matter, which is a refusal."""
    plain = re.sub(r"^\[\w+(: \w+)?\] |\s*\(_ssl\.c:\d+\)", "", words)
    if remedy := remedy_of(words):
        return BrokerRefusedError(f"{address}: {plain}; {remedy}", reason=plain)
    return BrokerError(f"{address}: {plain}")
