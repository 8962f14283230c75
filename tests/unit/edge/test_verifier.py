"""A permit counts once, for what it was given for, with a proof of the key that it is bound to; and never else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from forestall.pep.presenting import Presenter
from forestall.proof.algorithm import Algorithm
from forestall.proof.jws import sign, sign_with
from forestall.proof.possession import make_proof
from forestall_edge import FixedKeys, MemoryBurns, Reason, Trust, Verifier, read_trust
from forestall_edge.permit import MAX_PERMIT
from forestall_edge.proof import MAX_PROOF, WINDOW_S
from tests.edges import (
    ARGUMENTS,
    AUDIENCE,
    ISSUER,
    PIN,
    SIGNING,
    TOOL,
    Scene,
    document,
    names,
    permit,
    presenter,
    refused,
)
from tests.tokens import NOW, SECONDS, key


def test_a_permit_counts_once() -> None:
    scene = Scene()
    verifier, token = scene.verifier(), scene.token()
    permitted = scene.verify(token, verifier, pin=PIN)
    assert (permitted.id, permitted.tool, permitted.task) == ("permit-1", TOOL, "task-1")
    assert permitted.subject == "spiffe://example.org/agent"
    assert permitted.effects == ("write",)
    with refused(Reason.BURNED, token):
        scene.verify(token, verifier)
    with refused(Reason.BURNED, token):  # also with a proof of its own
        scene.verify(token, verifier, proof=scene.proof(token))


def test_what_is_refused_is_not_used_up() -> None:
    scene = Scene()
    verifier, token = scene.verifier(), scene.token()
    with refused(Reason.OTHER_ARGUMENTS):
        scene.verify(token, verifier, arguments={**ARGUMENTS, "path": "/etc/passwd"})
    assert scene.verify(token, verifier).id == "permit-1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "example.org/other"}, Reason.WRONG_ISSUER),
        ({"aud": "https://other.example/mcp"}, Reason.WRONG_AUDIENCE),
        ({"aud": [AUDIENCE]}, Reason.MALFORMED),
        ({"instance": "two"}, Reason.WRONG_INSTANCE),
        ({"instance": None}, Reason.WRONG_INSTANCE),
        ({"exp": SECONDS - 3}, Reason.EXPIRED),
        ({"exp": SECONDS + 600}, Reason.TOO_LONG),
        ({"iat": SECONDS + 3}, Reason.NOT_YET_VALID),
        ({"nbf": SECONDS + 3}, Reason.NOT_YET_VALID),
        ({"iat": SECONDS - 59}, Reason.TOO_LONG),
        ({"iat": SECONDS - 58, "exp": SECONDS}, Reason.BEFORE_START),
        ({"epoch": 3}, Reason.OLD_EPOCH),
        ({"tool": "files/delete"}, Reason.OTHER_TOOL),
        ({"arguments": "sha256:" + "0" * 64}, Reason.OTHER_ARGUMENTS),
        ({"cnf": {"jkt": "other"}}, Reason.OTHER_KEY),
        ({"cnf": {}}, Reason.MALFORMED),
        ({"cnf": None}, Reason.MALFORMED),
        ({"exp": None}, Reason.MALFORMED),
        ({"exp": True}, Reason.MALFORMED),
        ({"exp": float(SECONDS) + 1.5}, Reason.MALFORMED),
        ({"epoch": "4"}, Reason.MALFORMED),
        ({"effects": []}, Reason.MALFORMED),
        ({"jti": ""}, Reason.MALFORMED),
        ({"refs": []}, Reason.MALFORMED),
        ({"more": 1}, Reason.MALFORMED),
    ],
)
def test_a_claim_that_is_not_ours_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    scene = Scene()
    token = scene.claims(**changes)
    with refused(reason, token):
        scene.verify(token)


def test_time_and_the_stated_skew() -> None:
    scene = Scene()
    token = scene.token()
    scene.holder = presenter(now=NOW + 11_000)
    scene.at = SECONDS + 11.9
    assert scene.verify(token).id == "permit-1"
    scene.at = SECONDS + 12.0
    with refused(Reason.EXPIRED):
        scene.verify(token)


def test_another_tool_or_pin_is_refused() -> None:
    scene = Scene()
    token = scene.token()
    with refused(Reason.OTHER_TOOL):
        scene.verify(token, tool="files/delete")
    with refused(Reason.OTHER_PIN):
        scene.verify(token, pin="sha256:" + "0" * 64)
    assert scene.verify(token).refs == {}


@pytest.mark.parametrize("arguments", [{"a": float("nan")}, {"a": 2**53}, {"a": "\ud800"}, {1: 2}, {"a": object()}])
def test_arguments_without_one_meaning_are_refused(arguments: Any) -> None:
    scene = Scene()
    with refused(Reason.BAD_ARGUMENTS):
        scene.verify(scene.token(), arguments=arguments)


def test_arguments_that_nest_too_deep_are_refused() -> None:
    scene, arguments = Scene(), {}
    for _ in range(3_000):
        arguments = {"a": arguments}
    with refused(Reason.BAD_ARGUMENTS):
        scene.verify(scene.token(), arguments=arguments)


def proofs() -> list[tuple[str, Callable[[Scene, str], str], Reason]]:
    def made(holder: Presenter, token: str | None, **changes: Any) -> str:
        given: dict[str, Any] = {"method": "POST", "url": AUDIENCE, "now": NOW, "jti": "j", "nonce": None, **changes}
        return make_proof(holder.key, access_token=token, **given)

    def claims(scene: Scene, token: str, **changes: Any) -> str:
        import base64

        parts = scene.proof(token).split(".")
        read = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in parts[:2]]
        body = {name: value for name, value in {**read[1], **changes}.items() if value is not None}
        return sign_with(read[0], json.dumps(body).encode(), scene.holder.key)

    return [
        ("another key's", lambda _, token: made(presenter("thief"), token), Reason.OTHER_KEY),
        ("for no permit", lambda scene, _: made(scene.holder, None), Reason.BAD_PROOF),
        ("for another permit", lambda scene, token: made(scene.holder, token + "x"), Reason.OTHER_PERMIT),
        ("another method", lambda scene, token: made(scene.holder, token, method="GET"), Reason.OTHER_REQUEST),
        ("elsewhere", lambda scene, token: made(scene.holder, token, url=AUDIENCE + "/x"), Reason.OTHER_REQUEST),
        ("old", lambda scene, token: made(scene.holder, token, now=NOW - (WINDOW_S + 3) * 1000), Reason.STALE_PROOF),
        ("early", lambda scene, token: made(scene.holder, token, now=NOW + 3_000), Reason.STALE_PROOF),
        ("with a nonce", lambda scene, token: made(scene.holder, token, nonce="n"), Reason.BAD_PROOF),
        ("no jti", lambda scene, token: claims(scene, token, jti=None), Reason.BAD_PROOF),
        ("empty jti", lambda scene, token: claims(scene, token, jti=""), Reason.BAD_PROOF),
        ("long jti", lambda scene, token: claims(scene, token, jti="j" * 257), Reason.BAD_PROOF),
        ("a time that is none", lambda scene, token: claims(scene, token, iat="1"), Reason.BAD_PROOF),
        ("odd ath", lambda scene, token: claims(scene, token, ath="ö"), Reason.OTHER_PERMIT),
        ("too large", lambda _, __: "a" * (MAX_PROOF + 1), Reason.TOO_LARGE),
        ("no token", lambda _, __: "a.b", Reason.MALFORMED),
        ("the permit itself", lambda _, token: token, Reason.BAD_PROOF),
        ("cut", lambda scene, token: scene.proof(token)[:-43] + "A" * 43, Reason.BAD_PROOF),
    ]


@pytest.mark.parametrize(("make", "reason"), [case[1:] for case in proofs()], ids=[case[0] for case in proofs()])
def test_a_proof_that_does_not_hold_is_refused(make: Callable[[Scene, str], str], reason: Reason) -> None:
    scene = Scene()
    verifier, token = scene.verifier(), scene.token()
    with refused(reason, token):
        scene.verify(token, verifier, proof=make(scene, token))
    scene.verify(token, verifier)
    second = scene.token(permit(id="permit-2"))
    with refused(reason, second):  # and so it is once the key is known
        scene.verify(second, verifier, proof=make(scene, second))


def test_a_proof_of_an_embedded_private_key_is_refused() -> None:
    scene = Scene()
    token = scene.token()
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": {**scene.holder.key.public.bare(), "d": "AA"}}
    with refused(Reason.BAD_PROOF):
        scene.verify(token, proof=sign_with(header, b"{}", scene.holder.key))


@pytest.mark.parametrize("seen", [False, True], ids=["the first", "after one that counted"])
def test_signatures_keys_and_types(seen: bool) -> None:
    scene = Scene()
    verifier, token = scene.verifier(), scene.token()
    assert verifier.epoch == 0
    if seen:
        scene.verify(scene.token(permit(id="before")), verifier)
    head, body, tail = token.split(".")
    for forged in (
        f"{head}.{body}.{tail[:-43]}{'A' * 43}",
        f"{head}.{body[:-2]}AA.{tail}",
        f"{head}.{body}.{'A' * 86}",
    ):
        with refused(Reason.BAD_SIGNATURE, forged):
            scene.verify(forged, verifier, proof=scene.proof(token))
    for malformed in ("", "a.b.c", f"{head}.{body}.", f"{head}.{body}.{tail}=", f"{head}.{body}.{tail}A", "é.b.c"):
        with refused(Reason.MALFORMED):
            scene.verify(malformed, verifier, proof=scene.proof(token))
    with refused(Reason.TOO_LARGE):
        scene.verify("a" * (MAX_PERMIT + 1), verifier, proof=scene.proof(token))
    with refused(Reason.UNKNOWN_KEY):
        scene.verify(sign({}, key(Algorithm.ES256, "stranger"), typ="forestall-permit+jwt"), verifier)
    for typ in ("at+jwt", "dpop+jwt", "jwt"):
        with refused(Reason.WRONG_TYPE):
            scene.verify(sign({}, SIGNING, typ=typ), verifier)
    kid = SIGNING.public.kid
    for extra in ({"crit": ["x"]}, {"jwk": SIGNING.public.bare()}, {"alg": "none"}, {"alg": "HS256"}):
        header = {"alg": "ES256", "kid": kid, "typ": "forestall-permit+jwt", **extra}
        with refused(Reason.WRONG_TYPE):
            scene.verify(sign_with(header, b"{}", SIGNING), verifier)
    with refused(Reason.UNKNOWN_KEY):
        scene.verify(sign_with({"alg": "ES256", "kid": [], "typ": "forestall-permit+jwt"}, b"{}", SIGNING), verifier)


def test_a_key_that_is_published_no_more_signs_nothing_any_more() -> None:
    """However often its permits came before: what is remembered of them is not that they count."""
    scene = Scene()
    other = key(Algorithm.ES256, "others")
    said = [read_trust(document())]

    class Keys:
        def trust(self) -> Trust:
            return said[-1]

    verifier = scene.verifier(keys=Keys())
    scene.verify(scene.token(permit(id="before")), verifier)
    said.append(read_trust(document(other)))
    with refused(Reason.UNKNOWN_KEY):
        scene.verify(scene.token(), verifier)
    renamed = json.loads(document(other))
    renamed["keys"][0]["kid"] = SIGNING.public.kid
    said.append(read_trust(json.dumps(renamed).encode()))
    with refused(Reason.BAD_SIGNATURE):
        scene.verify(scene.token(), verifier)


def test_what_nobody_signed_is_not_remembered() -> None:
    scene = Scene()
    verifier, token = scene.verifier(), scene.token()
    odd = sign_with({"alg": "ES256", "kid": SIGNING.public.kid, "typ": "at+jwt"}, b"{}", SIGNING)
    for _ in range(2):
        with refused(Reason.WRONG_TYPE):
            scene.verify(odd, verifier, proof=scene.proof(token))
    scene.verify(token, verifier)
    with refused(Reason.WRONG_TYPE):
        scene.verify(odd, verifier, proof=scene.proof(token))


def test_duplicate_members_are_refused() -> None:
    scene = Scene()
    header = {"alg": "ES256", "kid": SIGNING.public.kid, "typ": "forestall-permit+jwt"}
    with refused(Reason.MALFORMED):
        scene.verify(sign_with(header, b'{"aud":"a","aud":"b"}', SIGNING))


def test_the_epoch_only_rises_whoever_says_so() -> None:
    scene = Scene()
    verifier, old = scene.verifier(), scene.token(permit(id="old"))
    scene.verify(scene.token(permit(id="new"), epoch=9), verifier)
    assert verifier.epoch == 9
    with refused(Reason.OLD_EPOCH):
        scene.verify(old, verifier)
    assert verifier.epoch == 9


def test_a_refused_permit_raises_no_epoch() -> None:
    """Nobody but the issuer of a permit that counts keeps others out."""
    scene = Scene()
    verifier = scene.verifier()
    token = scene.token(epoch=9)
    with refused(Reason.OTHER_KEY):
        scene.verify(token, verifier, proof=presenter("thief").present(token, AUDIENCE))
    assert verifier.epoch == 4


def test_after_a_restart_without_its_burns_what_was_issued_before_is_refused() -> None:
    scene = Scene()
    token = scene.token()
    scene.verify(token)
    scene.at = SECONDS + 1
    scene.burns = MemoryBurns(lambda: scene.at)
    with refused(Reason.BEFORE_START):
        scene.verify(token)


def test_burns_that_are_not_shared_want_an_instance() -> None:
    trust = read_trust(document())
    with pytest.raises(ValueError, match="name it, or share"):
        Verifier(FixedKeys(trust), AUDIENCE, MemoryBurns(lambda: 0.0))


def test_a_permit_of_one_instance_is_not_good_at_another() -> None:
    scene = Scene()
    token = scene.token()
    with refused(Reason.WRONG_INSTANCE):
        scene.verify(token, scene.verifier(instance="two"))


def test_a_urn_is_an_audience_too() -> None:
    scene = Scene()
    token = scene.token(audience="urn:example:files")
    verifier = scene.verifier(audience="urn:example:files")
    assert scene.verify(token, verifier, proof=scene.proof(token, "urn:example:files")).audience == "urn:example:files"


def test_nothing_secret_is_shown() -> None:
    scene = Scene()
    shown = repr(presenter("gateway")) + repr(read_trust(document())) + repr(scene.verifier())
    assert "PrivateKey" not in shown
    assert ISSUER in shown
    assert names()() == "name-0"


def test_two_permits_of_one_task_both_count() -> None:
    scene = Scene()
    verifier = scene.verifier()
    for name in ("one", "two"):
        assert scene.verify(scene.token(permit(id=name)), verifier).id == name
