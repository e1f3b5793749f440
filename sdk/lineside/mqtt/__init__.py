"""Topics, payloads, and a publisher that loses nothing. No paho type leaves this package."""

from lineside.mqtt.commands import (
    AckMessage,
    Answer,
    ChangeoverCommand,
    Command,
    CommandHandler,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
    decode_ack,
)
from lineside.mqtt.connection import Connection
from lineside.mqtt.desk import Reply
from lineside.mqtt.health import HealthFault, HealthMessage, decode_health, encode_health
from lineside.mqtt.hearing import Heard, Hearing
from lineside.mqtt.link import Link, Message
from lineside.mqtt.payload import VerdictMessage, decode_verdict, encode_verdict, message_of
from lineside.mqtt.publisher import Publisher
from lineside.mqtt.receiver import Receiver
from lineside.mqtt.settings import MqttSettings, parse_url
from lineside.mqtt.state import StateMessage, StateWord, decode_state, encode_state
from lineside.mqtt.topics import StationTopics, check_topic_part, parse_topic, topic_filters

__all__ = [
    "AckMessage",
    "Answer",
    "ChangeoverCommand",
    "Command",
    "CommandHandler",
    "Connection",
    "DispositionCommand",
    "HealthFault",
    "HealthMessage",
    "Heard",
    "Hearing",
    "Link",
    "MendedCommand",
    "Message",
    "MqttSettings",
    "Publisher",
    "Receiver",
    "Reply",
    "StateMessage",
    "StateWord",
    "StationTopics",
    "TriggerCommand",
    "VerdictMessage",
    "check_topic_part",
    "decode_ack",
    "decode_health",
    "decode_state",
    "decode_verdict",
    "encode_health",
    "encode_state",
    "encode_verdict",
    "message_of",
    "parse_topic",
    "parse_url",
    "topic_filters",
]
