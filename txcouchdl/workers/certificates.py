"""
The certificates of an endpoint, handed from one process to another: workers may not be allowed to read the files, and
whenever one is started anew, it is to show what the others do.
"""

from functools import partial
from typing import Any

from attrs import field, frozen
from OpenSSL.crypto import FILETYPE_PEM, X509
from twisted.internet.endpoints import SSL4ServerEndpoint, _parse
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair
from twisted.protocols._sni import PEMObjects
from twisted.python.filepath import FilePath

from txcouchdl.listening import Listening
from txcouchdl.settings import StartError


@frozen
class Certified:
    """A key, its certificate, and those between it and a root. All in PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    chain: tuple[bytes, ...]

    @classmethod
    def of(cls, options: CertificateOptions) -> "Certified":
        return cls(
            KeyPair(options.privateKey).dump(FILETYPE_PEM),
            Certificate(options.certificate).dumpPEM(),
            tuple(Certificate(each).dumpPEM() for each in options.extraCertChain or ()),
        )

    def options(self, **more: Any) -> CertificateOptions:
        return CertificateOptions(
            privateKey=KeyPair.load(self.key, FILETYPE_PEM).original,
            certificate=_x509(self.certificate),
            extraCertChain=[_x509(each) for each in self.chain],
            **more,
        )


def _x509(pem: bytes) -> X509:
    found: X509 = Certificate.loadPEM(pem).original
    return found


@frozen
class Certificates:
    """
    :ivar by_name: the names that clients ask for, and what each is shown. Who asks for none of them is shown the first.
        Empty where there is nothing to show, and each connection fails.
    """

    by_name: tuple[tuple[str, Certified], ...]

    def options(self) -> CertificateOptions:
        """What a server shows them with."""
        known: dict[str, CertificateOptions] = {}
        for name, certified in self.by_name:
            known[name] = certified.options(contextForServerName=partial(_chosen, known))
        return next(iter(known.values()), None) or CertificateOptions()


def _chosen(known: dict[str, CertificateOptions], asked: bytes | None) -> Any:
    """The OpenSSL context for a name; as Twisted's, an asterisk may stand for the first part of it."""
    name = (asked or b"").decode("ascii", "replace")
    options = known.get(name) or known.get(f"*.{name.partition('.')[2]}")
    return None if options is None else options.getContext()


def certificates_of(listening: Listening) -> Certificates:
    """
    What an endpoint of ``ssl:`` or ``tls:`` shows.

    :raises StartError: if it has more settings than certificates.
    """
    if isinstance(listening.endpoint, SSL4ServerEndpoint):
        options = listening.endpoint._sslContextFactory
        usual = CertificateOptions()
        if (options.method, options.dhParameters) != (usual.method, usual.dhParameters):
            raise StartError(f"{listening.description!r}: sslmethod and dhParameters are not for --workers")
        return Certificates((("", Certified.of(options)),))
    (_, directory, *_), named = _parse(f"{listening.description}:")
    found = PEMObjects.fromDirectory(FilePath(named.get("path", directory))).inferDomainMapping()
    return Certificates(tuple((name, Certified.of(options)) for name, options in found.items()))
