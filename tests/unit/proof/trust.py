"""Bundles in memory, as the checks of an SVID take them."""

from __future__ import annotations

from forestall.proof.bundle import Bundle, JwtAuthorities, X509Authorities, parse_bundle
from forestall.proof.fault import Fault, InvalidProof
from forestall.testing.authority import Authority

NOW = 1_795_000_000_000


class Held:
    """The bundles of these authorities, as each is now."""

    def __init__(self, *authorities: Authority) -> None:
        self._authorities = {each.trust_domain: each for each in authorities}

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._bundle(trust_domain).x509

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._bundle(trust_domain).jwt

    def _bundle(self, trust_domain: str) -> Bundle:
        if trust_domain not in self._authorities:
            raise InvalidProof(Fault.NO_BUNDLE)
        return parse_bundle(self._authorities[trust_domain].bundle(), trust_domain)


def authority(trust_domain: str = "example.org") -> Authority:
    return Authority(trust_domain, lambda: NOW)
