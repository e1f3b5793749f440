"""TLS towards the broker: whom to trust, who we are, and words for what goes wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

from lineside.errors import ConfigurationError
from lineside.mqtt.settings import MqttSettings
from lineside.plainfile import read_whole

_FILE_LIMIT_BYTES = 2**22
# What OpenSSL says, and what to do about it. Its own words go in front.
_REMEDIES = {
    "certificate required": "the broker asks who we are: set mqtt.cert_file and mqtt.key_file",
    "handshake failure": "does the broker ask for mqtt.cert_file and mqtt.key_file?",
    "unknown ca": "the broker does not trust the authority of mqtt.cert_file",
    "alert certificate expired": "mqtt.cert_file has expired: issue a new one",
    "alert bad certificate": "the broker refuses mqtt.cert_file",
    "certificate has expired": "the broker's certificate has expired, or this clock is wrong",
    "not yet valid": "the broker's certificate is not valid yet, or this clock is wrong",
    "unable to get local issuer": "mqtt.ca_file does not hold the broker's authority",
    "self-signed": "mqtt.ca_file does not hold the broker's authority",
    "self signed": "mqtt.ca_file does not hold the broker's authority",
    "hostname mismatch": "mqtt.url names another host than the broker's certificate",
    "ip address mismatch": "mqtt.url names another address than the broker's certificate",
    "wrong version number": "no TLS at this port: is it the broker's plain one?",
}


def make_context(settings: MqttSettings) -> ssl.SSLContext:
    """What a TLS connection to this broker needs; the files are read anew each time.

    Raises:
        ConfigurationError: a file or the key's password cannot be read, or they do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_file is None:
        context.load_default_certs()
    else:
        _read(settings.ca_file, "mqtt.ca_file")
        try:
            context.load_verify_locations(str(settings.ca_file))
        except (OSError, ValueError) as error:
            raise _wrong("mqtt.ca_file", settings.ca_file, "holds no PEM certificates") from error
    if settings.cert_file is not None:
        _load_own(context, settings, settings.cert_file)
    return context


def remedy_of(words: str) -> str:
    """What to do about an error of TLS; ``""`` when the words are none."""
    lower = words.lower().replace("_", " ")
    if "ssl" not in lower and "certificate" not in lower:
        return ""
    return next((remedy for sign, remedy in _REMEDIES.items() if sign in lower), "")


def _load_own(context: ssl.SSLContext, settings: MqttSettings, cert_file: Path) -> None:
    key_file = settings.key_file or cert_file
    _read(cert_file, "mqtt.cert_file")
    _read(key_file, "mqtt.key_file")
    # Always an answer: without one OpenSSL asks at the terminal, and the station hangs.
    password = settings.read_key_password() or ""
    try:
        context.load_cert_chain(str(cert_file), str(key_file), password=lambda: password)
    except ssl.SSLError as error:
        if "mismatch" in str(error).lower():
            raise _wrong("mqtt.key_file", key_file, "is not the key of mqtt.cert_file") from error
        raise _wrong(
            "mqtt.key_file",
            key_file,
            f"it and mqtt.cert_file ({cert_file}) are not a PEM certificate and its key, or the "
            "key's password (mqtt.key_password_env) is wrong or missing",
        ) from error
    except (OSError, ValueError) as error:
        raise _wrong("mqtt.cert_file", cert_file, "cannot be used") from error


def _read(file: Path, path: str) -> None:
    try:
        read_whole(file, limit_bytes=_FILE_LIMIT_BYTES)
    except OSError as error:
        raise _wrong(path, file, error.strerror or "cannot be read") from error


def _wrong(path: str, file: Path, words: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {file}: {words}", path=path)
