"""Home Assistant's MQTT discovery: retained messages that make a station appear there by itself.

https://www.home-assistant.io/integrations/mqtt/#single-component-discovery-payload
"""

from __future__ import annotations

import hashlib
import re

import msgspec

import lineside
from lineside.mqtt.link import Message
from lineside.mqtt.topics import StationTopics
from lineside.verdict import Evaluation

_ORIGIN = {"name": "lineside", "sw_version": lineside.__version__}
# Fault is not offline, but what it says last must not look valid either.
_AVAILABLE = "{{ 'online' if value_json.st == 1 else 'offline' }}"
_NAMES = "{" + ", ".join(f"{int(one)}: '{one.name}'" for one in Evaluation) + "}"
_EVALUATION = f"{{{{ ({_NAMES}).get(value_json.ev, '{Evaluation.UNDEFINED.name}') }}}}"


def discovery_messages(topics: StationTopics, *, prefix: str) -> list[Message]:
    """One retained message for each sensor: evaluation, score, and verdicts that wait.

    Args:
        prefix: Home Assistant's own, ``homeassistant`` unless changed there.
    """
    node = node_id(topics)
    sensors: dict[str, dict[str, object]] = {
        "evaluation": {
            "name": "Evaluation",
            "state_topic": topics.verdict,
            "value_template": _EVALUATION,
            "device_class": "enum",
            "options": [evaluation.name for evaluation in Evaluation],
            "json_attributes_topic": topics.verdict,
            # Two parts in a row with one evaluation are two events.
            "force_update": True,
        },
        "score": {
            "name": "Score",
            "state_topic": topics.verdict,
            "value_template": "{{ value_json.score }}",
            "force_update": True,
        },
        "queue": {
            "name": "Waiting verdicts",
            "state_topic": topics.state,
            "value_template": "{{ value_json.queue }}",
            "entity_category": "diagnostic",
        },
    }
    return [
        Message(
            topic=f"{prefix}/sensor/{node}/{name}/config",
            payload=msgspec.json.encode({**sensor, **_shared(topics, node, name)}),
            retain=True,
            optional=True,
        )
        for name, sensor in sensors.items()
    ]


def node_id(topics: StationTopics) -> str:
    """The station's name in topics of discovery: letters, digits, ``_`` and ``-`` only there."""
    digest = hashlib.sha256(str(topics).encode("utf-8")).hexdigest()[:8]
    return f"lineside_{re.sub('[^a-zA-Z0-9_-]', '_', str(topics))}_{digest}"


def _shared(topics: StationTopics, node: str, name: str) -> dict[str, object]:
    return {
        "unique_id": f"{node}_{name}",
        "qos": 1,
        "availability": [{"topic": topics.state, "value_template": _AVAILABLE}],
        "device": {
            "identifiers": [node],
            "name": f"Lineside {topics}",
            "manufacturer": "Lineside",
            "model": "station",
            "sw_version": lineside.__version__,
        },
        "origin": _ORIGIN,
    }
