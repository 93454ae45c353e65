"""A proxy as companies have them: it opens what is encrypted, with certificates of an authority of its own."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.http_server import QuietHandler, serving


@dataclass
class CompanyProxy:
    """Where it is, the file of its authority, and what it was asked for."""

    url: str
    authority: Path
    hosts: list[str] = field(default_factory=list)


@contextmanager
def company_proxy(folder: Path, *, host: str, content: bytes) -> Iterator[CompanyProxy]:
    """Answer every request through it, for any path at a host, with the same content."""
    state = CompanyProxy("", folder / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certify(state.authority, host))

    class Handler(QuietHandler):
        def do_CONNECT(self) -> None:
            state.hosts.append(self.path)
            self.send_response(200)
            self.end_headers()
            with context.wrap_socket(self.connection, server_side=True) as opened:
                opened.recv(1 << 16)
                opened.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
                opened.sendall(content)

    with serving(Handler) as state.url:
        yield state


def _certify(authority: Path, host: str) -> Path:
    """Write a certificate of a host, which certifies itself, and return the file that has its key as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both = authority.with_suffix(".key")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both.write_bytes(key.private_bytes(*form) + authority.read_bytes())
    return both
