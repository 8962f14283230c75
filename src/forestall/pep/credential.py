"""A credential in the hands of a guarded function, for the length of its call, and what must not come back of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Never

from forestall.core.ask import CannotDo
from forestall.core.errors import InvalidInput, SetupError, Unavailable
from forestall.core.model import Lease, Prove
from forestall.core.place import fill
from forestall.core.scrub import secrets_in
from forestall.pep.sought import Sought


class Credential(Mapping[str, str]):
    """What a backend gave out for one call: its fields, by the backend's own names, such as `user` and `password`.

    No text of it shows what it holds, it cannot be copied or pickled, and it equals nothing but itself. Once the call
    is over, it holds nothing: whatever reads it raises `InvalidInput`. What a function copied out of it is the
    function's own affair; the backend ends that with the call or the task.
    """

    __slots__ = ("__weakref__", "_fields", "_name", "_prove", "_value")

    def __init__(
        self, name: str, fields: Mapping[str, str], value: str | None = None, prove: Prove | None = None
    ) -> None:
        self._name = name
        self._fields: Mapping[str, str] | None = dict(fields)
        self._value, self._prove = value, prove

    @property
    def value(self) -> str:
        """The text that the class's `place` makes of the fields, such as a connection string.

        Raises:
            InvalidInput: the call is over.
            SetupError: the class has no `place`.
        """
        value = self._value
        self._held()
        if value is None:
            raise SetupError(
                f"The class `{self._name}` has no `place`, so there is no text of it; write one in credentials.toml, "
                "or read the fields."
            )
        return value

    def proof(self, method: str, url: str, nonce: str | None = None) -> str:
        """What goes into the header `DPoP` of one request that carries this token (RFC 9449, 7.1), and of no other. The
        key is not given out.

        Args:
            method: of the request, such as `GET`.
            url: of the request, whole; query and fragment do not matter.
            nonce: the server's latest `DPoP-Nonce`; None while it has given none.

        Raises:
            InvalidInput: the call is over, or there is no such request.
            SetupError: the class's tokens are bound to no key.
            Unavailable: the credential was ended meanwhile.
        """
        prove = self._prove
        self._held()
        if prove is None:
            raise SetupError(
                f"The credential of `{self._name}` is bound to no key, so no request needs a proof; `dpop = true` in "
                "credentials.toml binds one."
            )
        try:
            return prove(method, url, nonce)
        except CannotDo:
            raise Unavailable(f"The credential of `{self._name}` was ended; call the tool again.") from None

    def forget(self) -> None:
        """Hold nothing any more. The guard does that when the call is over; a function may do it sooner."""
        self._fields = self._value = self._prove = None

    def __getitem__(self, field: str) -> str:
        held = self._held()
        if field not in held:
            raise KeyError(f"The credential has no `{field}`; it has {', '.join(sorted(held)) or 'nothing'}.")
        return held[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Credential({self._name!r})"

    def __reduce_ex__(self, _protocol: object) -> Never:
        raise TypeError("a credential is for one call, and cannot be copied or pickled")

    def _held(self) -> Mapping[str, str]:
        held = self._fields
        if held is None:
            raise InvalidInput(
                f"The credential of `{self._name}` was for one call, which is over; call the tool again."
            )
        return held


def lent(lease: Lease, sought: Sought, now: int) -> Credential:
    """What the function is given of a lease with a secret; from now on it is sought.

    Raises:
        InvalidInput: the template of its place names what the backend did not give out. The message holds no value.
    """
    assert lease.secret is not None
    fields = lease.secret.fields
    value = None if lease.place is None else fill(lease.place, fields).value
    secrets = secrets_in(fields, *(() if value is None else (value,)))
    sought.add(lease.name, secrets, until=lease.over_by, now=now)
    return Credential(lease.credential, fields, value, lease.secret.prove)
