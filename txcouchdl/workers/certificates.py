"""
The certificates of an endpoint, handed from one process to another: workers may not be allowed to read the files, and
whenever one is started anew, it is to show what the others do.
"""

from functools import partial
from typing import Any

from attrs import field, frozen
from OpenSSL.crypto import FILETYPE_PEM, X509
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair

from txcouchdl.settings import StartError
from txcouchdl.tls import ByName, ShownCertificates, by_name


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
    :ivar by_name: the names that clients ask for, and what each is shown, at least one. A client that asks for none of
        them is shown the first.
    """

    by_name: tuple[tuple[str, Certified], ...]

    @classmethod
    def of(cls, shown: ShownCertificates, description: str) -> "Certificates":
        """
        What an endpoint shows.

        :param description: of the endpoint.
        :raises StartError: if it has more settings than certificates.
        """
        usual = CertificateOptions()
        for options in shown.by_name.values():
            if (options.method, options.dhParameters) != (usual.method, usual.dhParameters):
                raise StartError(f"{description!r}: sslmethod and dhParameters are not for --workers")
        return cls(tuple((name, Certified.of(options)) for name, options in shown.by_name.items()))

    def options(self) -> ByName:
        """What a server shows them with."""
        return by_name((name, partial(Certified.options, certified)) for name, certified in self.by_name)
