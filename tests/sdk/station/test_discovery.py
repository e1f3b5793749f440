"""Home Assistant's discovery, held against what its documentation asks for.

https://www.home-assistant.io/integrations/mqtt/#single-component-discovery-payload and
https://www.home-assistant.io/integrations/sensor.mqtt/
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lineside.errors import ConfigurationError
from lineside.mqtt import MqttSettings, StateMessage, StationTopics, VerdictMessage
from lineside.mqtt.discovery import discovery_messages, node_id
from lineside.verdict import Evaluation

TOPICS = StationTopics(site="plant 1", line="Straße", station="aoi.1")
# Keys of a sensor that the documentation knows; another one makes Home Assistant refuse the whole.
KNOWN = {
    *("name", "state_topic", "value_template", "device_class", "options", "force_update"),
    *("json_attributes_topic", "entity_category", "unique_id", "qos", "availability", "device"),
    "origin",
}


def sensors() -> dict[str, dict[str, Any]]:
    messages = discovery_messages(TOPICS, prefix="homeassistant")
    return {message.topic.split("/")[3]: json.loads(message.payload) for message in messages}


def test_topics_are_as_documented() -> None:
    for message in discovery_messages(TOPICS, prefix="ha/test"):
        assert re.fullmatch(r"ha/test/sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", message.topic)
        assert message.retain
        assert message.optional


def test_every_sensor_has_what_is_required_and_nothing_unknown() -> None:
    found = sensors()
    assert set(found) == {"evaluation", "score", "queue"}
    for sensor in found.values():
        assert set(sensor) <= KNOWN
        assert sensor["state_topic"] in (TOPICS.verdict, TOPICS.state)
        # "at least one of `connection` and `identifiers` as well as the `name`"
        assert sensor["device"]["identifiers"]
        assert sensor["device"]["name"]
        assert sensor["origin"]["name"]
        (available,) = sensor["availability"]
        assert available["topic"] == TOPICS.state
        assert "online" in available["value_template"]
        assert "offline" in available["value_template"]
    assert len({sensor["unique_id"] for sensor in found.values()}) == 3
    assert len({json.dumps(sensor["device"]) for sensor in found.values()}) == 1


def test_the_evaluation_is_an_enum_of_its_words() -> None:
    evaluation = sensors()["evaluation"]
    assert evaluation["device_class"] == "enum"
    assert evaluation["options"] == [one.name for one in Evaluation]
    # An enum must have neither of these.
    assert not {"state_class", "unit_of_measurement"} & set(evaluation)
    for one in Evaluation:
        assert f"{int(one)}: '{one.name}'" in evaluation["value_template"]


def test_templates_read_keys_that_are_on_the_wire() -> None:
    for sensor in sensors().values():
        message = VerdictMessage if sensor["state_topic"] == TOPICS.verdict else StateMessage
        for key in re.findall(r"value_json\.(\w+)", sensor["value_template"]):
            assert key in message.__struct_fields__
    for key in re.findall(
        r"value_json\.(\w+)", sensors()["queue"]["availability"][0]["value_template"]
    ):
        assert key in StateMessage.__struct_fields__


def test_stations_whose_names_look_alike_stay_apart() -> None:
    names = ("a.b", "a_b", "a b", "ä_b")
    nodes = {node_id(StationTopics(site="s", line="l", station=name)) for name in names}
    assert len(nodes) == len(names)


@pytest.mark.parametrize("prefix", ["", "a//b", "/a", "a/", "a/#", "+/a", "$SYS/a", "a\tb"])
def test_a_prefix_that_is_none_is_refused_by_its_path(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mqtt\.discovery_prefix") as caught:
        MqttSettings(discovery_prefix=prefix).check()
    assert caught.value.path == "mqtt.discovery_prefix"


def test_a_prefix_of_several_levels_is_one() -> None:
    MqttSettings(discovery_prefix="homes/main").check()
