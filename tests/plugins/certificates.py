"""An authority of a test's own, and certificates from it, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates; its own is ``ca_file``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issued = 0
        public = self._key.public_key()
        root = (
            self._builder(name, public, age=-_HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / f"{name}.ca.pem"
        self.ca_file.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        subject: str,
        *,
        address: str = "127.0.0.1",
        expired: bool = False,
        password: str = "",
    ) -> Pair:
        """A certificate for a server at ``address`` or a client; the key encrypted by password."""
        key = ec.generate_private_key(ec.SECP256R1())
        age = datetime.timedelta(days=2) if expired else -_HOUR
        leaf = (
            self._builder(subject, key.public_key(), age=age)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        self._issued += 1
        stem = f"{self._name}.{self._issued}"
        pair = Pair(certificate=self._folder / f"{stem}.pem", key=self._folder / f"{stem}.key")
        pair.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode())
                if password
                else serialization.NoEncryption(),
            )
        )
        # mosquitto may run as another user.
        pair.key.chmod(0o644)
        return pair

    def _builder(
        self, subject: str, public: ec.EllipticCurvePublicKey, *, age: datetime.timedelta
    ) -> x509.CertificateBuilder:
        # `age` since it ended; negative: it still holds for so long.
        end = datetime.datetime.now(datetime.UTC) - age
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 2 * _HOUR)
            .not_valid_after(end)
        )
