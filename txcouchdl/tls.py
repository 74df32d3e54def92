"""
Certificates of endpoints: read from their files, shown to each new connection, and read again on demand.

A connection keeps the certificate with which it began. Files that are not in order replace nothing.

``tls:`` is taken apart here and not by Twisted, whose own way reads the whole directory again for each unknown name
that a client asks for, and never ends if the directory has a root.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, cast

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate as Certificate509
from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName
from OpenSSL.crypto import FILETYPE_PEM, X509
from OpenSSL.SSL import Connection, Context
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP6ServerEndpoint, _parse, serverFromString, wrapServerTLS
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IStreamServerEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair
from twisted.python.filepath import FilePath
from zope.interface import implementer

#: By the names that clients ask for. A client that asks for none of them gets the first.
ByName = Mapping[str, CertificateOptions]

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
# Of a key with a passphrase, for which OpenSSL would ask at the terminal, and wait.
_ENCRYPTED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED", re.MULTILINE)


@implementer(IOpenSSLServerConnectionCreator)
class ShownCertificates:
    """
    What new connections of an endpoint are shown.

    :ivar by_name: the certificates, at least one.
    """

    def __init__(self, by_name: ByName) -> None:
        self.show(by_name)

    def show(self, by_name: ByName) -> None:
        """
        Show these from now on.

        :raises Exception: if OpenSSL does not take one of them; the former ones stay then.
        """
        for options in by_name.values():
            options.getContext()
        self.by_name = by_name

    def serverConnectionForTLS(self, _protocol: Any) -> Connection:
        return Connection(next(iter(self.by_name.values())).getContext(), None)


class FileCertificates(ShownCertificates):
    """
    Certificates that come from files.

    :param read: reads the files.
    :raises Exception: if these are not in order.
    """

    def __init__(self, read: Callable[[], ByName]) -> None:
        super().__init__(read())
        self._read = read

    def reload(self) -> None:
        """
        Read the files again.

        :raises Exception: if they are not in order; the former certificates stay then.
        """
        self.show(self._read())


def secured_endpoint(reactor: Any, description: str) -> tuple[IStreamServerEndpoint, FileCertificates] | None:
    """
    :return: the endpoint of an ``ssl:`` or a ``tls:``, and its certificates; ``None`` for any other.
    :raises Exception: if that is not in order, or its files are not.
    """
    kind, _, _ = description.partition(":")
    if kind == "ssl":
        certificates = FileCertificates(partial(_read_ssl, description))
        endpoint: Any = serverFromString(reactor, description)
        endpoint._sslContextFactory = certificates
        return endpoint, certificates
    if kind.lower() == "tls":
        (_, *positional), named = _parse(description)
        path, wrapped = _tls_endpoint(reactor, *positional, **named)
        certificates = FileCertificates(partial(_read_tls, path))
        return wrapServerTLS(certificates, wrapped, reactor), certificates
    return None


def private_key_files(description: str) -> Iterator[str]:
    """
    The files of an endpoint that hold private keys.

    :raises Exception: if the description is not in order.
    """
    kind, _, _ = description.partition(":")
    if kind == "ssl":
        yield _key_file(description)
    elif kind.lower() == "tls":
        (_, *positional), named = _parse(description)
        path, _ = _tls_endpoint(None, *positional, **named)
        for file in _pem_files(path):
            if b"PRIVATE KEY-----" in file.getContent():
                yield str(file.path)


def _key_file(description: str) -> str:
    positional, named = _parse(description)
    return str(positional[2] if len(positional) > 2 else named.get("privateKey", "server.pem"))


def _read_ssl(description: str) -> ByName:
    _check_key(FilePath(_key_file(description)).getContent())
    endpoint = cast(SSL4ServerEndpoint, serverFromString(None, description))
    return {"": endpoint._sslContextFactory}


def _check_key(content: bytes) -> None:
    if _ENCRYPTED.search(content):
        raise ValueError("a private key has a passphrase")


def _tls_endpoint(
    reactor: Any, path: str, port: str = "443", backlog: str = "50", interface: str = "::"
) -> tuple[str, IStreamServerEndpoint]:
    """The parameters of ``tls:``, as Twisted names them."""
    return path, TCP6ServerEndpoint(reactor, int(port), int(backlog), interface)


def by_name(certified: Iterable[tuple[str, Callable[..., CertificateOptions]]]) -> ByName:
    """:param certified: names, each with what makes its options, given the choice among all of them."""
    known: dict[str, CertificateOptions] = {}
    for name, options in certified:
        known[name] = options(contextForServerName=partial(_chosen, known))
    return known


def _chosen(known: ByName, asked: bytes | None) -> Context | None:
    """The OpenSSL context for a name; as Twisted's, an asterisk may stand for the first part of it."""
    name = (asked or b"").decode("ascii", "replace")
    options = known.get(name) or known.get(f"*.{name.partition('.')[2]}")
    return None if options is None else options.getContext()


# The files of a directory.


@frozen
class _Found:
    """The keys and the certificates of a directory, in the order of its paths."""

    keys: Mapping[str, KeyPair]
    certificates: tuple[Certificate, ...]

    @classmethod
    def below(cls, path: str) -> "_Found":
        keys: dict[str, KeyPair] = {}
        certificates = []
        for label, block in _blocks(path):
            if label.endswith(b"PRIVATE KEY"):
                key = KeyPair.load(block, FILETYPE_PEM)
                keys[key.keyHash()] = key
            elif label == b"CERTIFICATE":
                certificates.append(Certificate.loadPEM(block))
        return cls(keys, tuple(certificates))


def _blocks(path: str) -> Iterator[tuple[bytes, bytes]]:
    """What stands in the ``*.pem`` files below a directory: labels, and the blocks that they begin."""
    for file in _pem_files(path):
        content = file.getContent()
        _check_key(content)
        for block in _BLOCK.finditer(content):
            yield block[1], block[0]


def _pem_files(path: str) -> "list[FilePath[str]]":
    files = (each for each in FilePath(path).walk() if each.basename().endswith(".pem") and each.isfile())
    return sorted(files, key=lambda each: str(each.path))


def _read_tls(path: str) -> ByName:
    """
    :raises ValueError: if there is nothing to show.
    """
    found = _Found.below(path)
    chosen: dict[str, Certificate] = {}
    for certificate in found.certificates:
        if certificate.getPublicKey().keyHash() in found.keys:
            for name in _names(certificate):
                # After a renewal the former one may still lie there.
                before = chosen.get(name)
                chosen[name] = certificate if before is None else max(before, certificate, key=_end)
    if not chosen:
        raise ValueError(f"{path!r} has no certificate for a name, with its key, in a *.pem")
    return by_name((name, partial(_options, certificate, found)) for name, certificate in chosen.items())


def _options(certificate: Certificate, found: _Found, **more: Any) -> CertificateOptions:
    return CertificateOptions(
        privateKey=found.keys[certificate.getPublicKey().keyHash()].original,
        certificate=certificate.original,
        extraCertChain=_chain(certificate, found.certificates),
        **more,
    )


def _chain(certificate: Certificate, others: Iterable[Certificate]) -> list[X509]:
    """The certificates between one and its root. The root itself is left out: clients have it, or do not trust it."""
    chain: list[X509] = []
    current, left = _parsed(certificate), {_parsed(each): each for each in others}
    while issuer := next((each for each in left if _issued(each, current)), None):
        chain.append(left.pop(issuer).original)
        current = issuer
    return chain


def _issued(issuer: Certificate509, certificate: Certificate509) -> bool:
    if issuer.subject != certificate.issuer or issuer.subject == issuer.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _names(certificate: Certificate) -> list[str]:
    try:
        extension = _parsed(certificate).extensions.get_extension_for_class(SubjectAlternativeName)
    except ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(DNSName)


def _end(certificate: Certificate) -> Any:
    return _parsed(certificate).not_valid_after_utc


def _parsed(certificate: Certificate) -> Certificate509:
    parsed: Certificate509 = certificate.original.to_cryptography()
    return parsed
