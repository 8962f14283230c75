"""A Workload API on a Unix socket, for tests: what a SPIRE agent answers, and the ways in which one goes wrong.

It speaks gRPC as any agent does (SPIFFE_Workload_Endpoint.md, SPIFFE_Workload_API.md): the metadata is asked for,
nobody has an identity before `register`, streams carry every change, and each message says everything anew. Needs the
extra `spiffe`, whose generated messages it speaks with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.testing.authority import Authority, Issued

METADATA = ("workload.spiffe.io", "true")
_THREADS = 24  # one for every open stream, and a few for calls


@dataclass(frozen=True, slots=True)
class Registered:
    """An identity that whoever connects is given."""

    path: str
    hint: str
    svid: Issued


class WorkloadApiServer:
    """The agent of `authority`'s trust domain. Change it by its methods; open streams are told at once.

    `validate` answers ValidateJWTSVID: from an audience and a token to the SPIFFE ID, or None where it is not valid.
    """

    def __init__(
        self, socket: Path, authority: Authority, *, validate: Callable[[str, str], str | None] = lambda *_: None
    ) -> None:
        self.socket = socket
        self.authority = authority
        self._validate = validate
        self._grpc: Any = import_module("grpc")
        self._messages: Any = import_module("spiffe._proto.workload_pb2")
        self._server: Any = None
        self._change = threading.Condition()
        self._version = 0
        self._cut = 0
        self._registered: list[Registered] = []
        self._federated: dict[str, Authority] = {}
        self._withheld: set[str] = set()
        self._damaged: dict[str, bytes] = {}
        self._revoked: tuple[bytes, ...] = ()

    @property
    def endpoint(self) -> str:
        """What SPIFFE_ENDPOINT_SOCKET would say."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        server = self._grpc.server(ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
        services: Any = import_module("spiffe._proto.workload_pb2_grpc")
        services.add_SpiffeWorkloadAPIServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """Every stream ends, and nobody answers until it is started again."""
        server, self._server = self._server, None
        if server is not None:
            stopped = server.stop(grace=None)
            self.interrupt()
            stopped.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def register(self, path: str, hint: str = "") -> Issued:
        """From now on whoever asks is also this workload."""
        svid = self.authority.x509_svid(path)
        with self._changing():
            self._registered.append(Registered(path, hint, svid))
        return svid

    def hand_out(self, *svids: Issued) -> None:
        """These are the identities of whoever asks, as they are, be they right or wrong."""
        with self._changing():
            self._registered = [Registered(each.id.removeprefix(self.authority.id), "", each) for each in svids]

    def renew(self) -> None:
        """Every registered identity gets a new X.509-SVID from the newest authority."""
        with self._changing():
            self._registered = [
                Registered(each.path, each.hint, self.authority.x509_svid(each.path)) for each in self._registered
            ]

    def deny(self) -> None:
        """Nobody has an identity any more: open streams end with PermissionDenied, as new ones do."""
        with self._changing():
            self._registered = []

    def federate(self, authority: Authority) -> None:
        with self._changing():
            self._federated[authority.trust_domain] = authority

    def withhold(self, trust_domain: str) -> None:
        """The bundles of this trust domain are left out of every message."""
        with self._changing():
            self._withheld.add(trust_domain)

    def damage(self, trust_domain: str, data: bytes) -> None:
        """These bytes are sent in place of the bundles of this trust domain."""
        with self._changing():
            self._damaged[trust_domain] = data

    def revoke(self, *lists: bytes) -> None:
        """These revocation lists (DER) are sent with the X.509 bundles."""
        with self._changing():
            self._revoked = lists

    def push(self) -> None:
        """Tell every stream: for when an authority was changed."""
        with self._changing():
            pass

    def interrupt(self) -> None:
        """Every open stream ends with Unavailable."""
        with self._change:
            self._cut += 1
            self._change.notify_all()

    # -- the service, as the generated code calls it

    def FetchX509SVID(self, _request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - the standard's name
        return self._stream(context, self._x509_svids)

    def FetchX509Bundles(self, _request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        return self._stream(context, self._x509_bundles)

    def FetchJWTBundles(self, _request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        return self._stream(context, self._jwt_bundles)

    def FetchJWTSVID(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._admit(context)
        if not request.audience:
            context.abort(self._grpc.StatusCode.INVALID_ARGUMENT, "audience must be specified")
        paths = [
            (each.path, each.hint)
            for each in self._registered
            if request.spiffe_id in {"", self.authority.id + each.path}
        ]
        if not paths:
            context.abort(self._grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        return self._messages.JWTSVIDResponse(
            svids=[
                self._messages.JWTSVID(
                    spiffe_id=self.authority.id + path,
                    svid=self.authority.jwt_svid(path, list(request.audience)),
                    hint=hint,
                )
                for path, hint in paths
            ]
        )

    def ValidateJWTSVID(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._admit(context)
        identity = self._validate(request.audience, request.svid)
        if identity is None:
            context.abort(self._grpc.StatusCode.INVALID_ARGUMENT, "the JWT-SVID is not valid")
        return self._messages.ValidateJWTSVIDResponse(spiffe_id=identity)

    # -- behind it

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """While it is held nobody reads; afterwards every stream sends what is now."""
        with self._change:
            yield
            self._version += 1
            self._change.notify_all()

    def _admit(self, context: Any) -> None:
        """SPIFFE_Workload_Endpoint.md, section 5: without the metadata it may be a forged request of a browser's."""
        if METADATA not in [(each.key, each.value) for each in context.invocation_metadata()]:
            context.abort(self._grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")

    def _stream(self, context: Any, message: Callable[[], Any]) -> Iterator[Any]:
        self._admit(context)
        context.add_callback(self._wake)
        with self._change:
            cut, seen = self._cut, -1
        while context.is_active():
            with self._change:
                self._change.wait_for(
                    lambda: self._version != seen or self._cut != cut or not context.is_active()  # noqa: B023
                )
                seen = self._version
                ended, registered = self._cut != cut, bool(self._registered)
                answer = message() if registered else None
            if ended:
                context.abort(self._grpc.StatusCode.UNAVAILABLE, "interrupted")
            if not registered:
                context.abort(self._grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            yield answer

    def _wake(self) -> None:
        with self._change:
            self._change.notify_all()

    def _known(self) -> list[Authority]:
        return [each for each in (self.authority, *self._federated.values()) if each.trust_domain not in self._withheld]

    def _x509_svids(self) -> Any:
        return self._messages.X509SVIDResponse(
            svids=[
                self._messages.X509SVID(
                    spiffe_id=each.svid.id,
                    x509_svid=b"".join(each.svid.chain),
                    x509_svid_key=each.svid.key,
                    bundle=self.authority.x509_bundle(),
                    hint=each.hint,
                )
                for each in self._registered
            ],
            federated_bundles={each.id: each.x509_bundle() for each in self._federated.values()},
        )

    def _x509_bundles(self) -> Any:
        bundles = {each.id: self._damaged.get(each.trust_domain, each.x509_bundle()) for each in self._known()}
        return self._messages.X509BundlesResponse(bundles=bundles, crl=self._revoked)

    def _jwt_bundles(self) -> Any:
        bundles = {each.id: self._damaged.get(each.trust_domain, each.jwt_bundle()) for each in self._known()}
        return self._messages.JWTBundlesResponse(bundles=bundles)
