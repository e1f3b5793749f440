"""Signed commands from afar: who may tell a station what, and what carries it there."""

from lineside.remote.envelope import CommandBody, sign_command
from lineside.remote.gate import Gate, Refusal, RefusalReason, SignedCommand
from lineside.remote.handlers import Handler, Receiving, Slotting
from lineside.remote.keys import CommandKeys, KeyRing, load_command_keys
from lineside.remote.settings import CommandKeySettings, CommandSettings
from lineside.remote.verbs import (
    UNSIGNED_VERBS,
    VERBS,
    Args,
    ConfirmArgs,
    InstallArgs,
    PauseArgs,
    RangeArgs,
    ResumeArgs,
    RevertArgs,
    Scalar,
    SetLimitArgs,
    Verb,
)

__all__ = [
    "UNSIGNED_VERBS",
    "VERBS",
    "Args",
    "CommandBody",
    "CommandKeySettings",
    "CommandKeys",
    "CommandSettings",
    "ConfirmArgs",
    "Gate",
    "Handler",
    "InstallArgs",
    "KeyRing",
    "PauseArgs",
    "RangeArgs",
    "Receiving",
    "Refusal",
    "RefusalReason",
    "ResumeArgs",
    "RevertArgs",
    "Scalar",
    "SetLimitArgs",
    "SignedCommand",
    "Slotting",
    "Verb",
    "load_command_keys",
    "sign_command",
]
