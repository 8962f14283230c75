"""How an agent says who it is: four ways, of which it has one."""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forestall.adapter.oidc.token_file import read_token
from forestall.core.errors import SetupError
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from forestall.proof.jwk import SigningKey

SVID_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
"""draft-ietf-oauth-spiffe-client-auth."""


class Identity(Protocol):
    """Asked for each request, so that what rotates is fresh."""

    def parameters(self, audience: str, now: int) -> Mapping[str, str]:
        """What goes into the form. `audience`: the issuer; `now`: milliseconds since the epoch."""
        ...

    def show(self, context: ssl.SSLContext) -> bool:
        """Put a client certificate into the context. Is there one?"""
        ...


class _Spoken:
    """Says it in the form alone."""

    def show(self, context: ssl.SSLContext) -> bool:  # noqa: ARG002 - a protocol's
        return False


@dataclass(frozen=True, slots=True)
class RegisteredKey(_Spoken):
    """A client in `identity.toml`, which signs for itself (RFC 7523)."""

    client: str
    key: SigningKey = field(repr=False)

    def parameters(self, audience: str, now: int) -> Mapping[str, str]:
        jti = secrets.token_urlsafe(24)
        assertion = make_assertion(self.key, client=self.client, audience=audience, now=now, jti=jti)
        return {"client_id": self.client, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


@dataclass(frozen=True, slots=True)
class JwtSvid(_Spoken):
    """A SPIFFE workload; `supply` gives a JWT-SVID for an audience, such as `WorkloadApi.jwt_svid`."""

    supply: Callable[[str], str] = field(repr=False)

    def parameters(self, audience: str, now: int) -> Mapping[str, str]:  # noqa: ARG002 - a protocol's
        return {"client_assertion_type": SVID_ASSERTION_TYPE, "client_assertion": self.supply(audience)}


@dataclass(frozen=True, slots=True)
class TokenFile(_Spoken):
    """A workload token that somebody else keeps fresh in a file, as the kubelet does."""

    path: Path

    def parameters(self, audience: str, now: int) -> Mapping[str, str]:  # noqa: ARG002 - a protocol's
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": read_token(self.path)}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that TLS shows, such as an X.509-SVID. `supply` gives the chain and the key, in PEM."""

    supply: Callable[[], tuple[bytes, bytes]] = field(repr=False)

    @classmethod
    def of_files(cls, certificate: Path, key: Path) -> ClientCertificate:
        """Read again for each request."""
        return cls(lambda: (_read(certificate), _read(key)))

    def parameters(self, audience: str, now: int) -> Mapping[str, str]:  # noqa: ARG002 - a protocol's
        return {}

    def show(self, context: ssl.SSLContext) -> bool:
        chain, key = self.supply()
        # the library takes files alone; these are in memory, and nobody else's
        files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("certificate", "key")]
        try:
            for file, data in zip(files, (chain, key), strict=True):
                os.write(file, data)
            shown, private = (f"/proc/self/fd/{file}" for file in files)
            context.load_cert_chain(shown, private, password="")  # never ask at a terminal
        except (OSError, ValueError):
            raise SetupError(
                "The client certificate and its key, in PEM and unencrypted, do not go together."
            ) from None
        finally:
            for file in files:
                os.close(file)
        return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from None
