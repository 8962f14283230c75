"""Tasks of workloads with SVIDs: opened, handed on, acted in through real gateways, and taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interop.point import Point, eventually
from interop.spire.conftest import ACTOR, Make, Start
from interop.spire.domain import Domain
from interop.spire.place import Process
from interop.spire.workload import now

SUPPORT, SHIPPING = "spiffe://example.org/support", "spiffe://example.org/shipping"
ORDER, OTHER = {"order": "4711"}, {"order": "4712"}


@dataclass(frozen=True)
class Holder:
    """A workload with the grant of one task, at one decision point."""

    process: Process
    point: Point
    grant: Path
    by: str = "jwt"

    def ask(self, name: str, **more: Any) -> dict[str, Any]:
        given = {"url": self.point.url, "ca": str(self.point.ca), "grant": str(self.grant), "by": self.by}
        return self.process.ask(name, **{**given, **more})

    def open(self, **more: Any) -> dict[str, Any]:
        return self.ask("open", order="4711", **more)

    def ticket(self, to: str = SHIPPING, **narrower: Any) -> str:
        return str(self.ask("delegate", to=to, narrower=narrower)["ticket"])

    def accept(self, ticket: str) -> dict[str, Any]:
        return self.ask("accept", ticket=ticket)

    def act(self, tool: str = "read_order", arguments: Mapping[str, str] = ORDER) -> dict[str, Any]:
        return self.ask("act", home=str(self.point.home.root), tool=tool, arguments=arguments)

    def reads(self) -> bool:
        return "order 4711" in self.act().get("text", "")

    @property
    def active(self) -> bool:
        return bool(self.ask("introspect")["active"])


@pytest.fixture(autouse=True)
def live(support: Process, shipping: Process) -> None:
    support.live()
    shipping.live()


@pytest.fixture
def hold(point: Point, tmp_path: Path) -> Iterator[Any]:
    """Makes a holder, whose gateway is gone in the end."""
    made: list[Holder] = []

    def holder(process: Process, name: str, by: str = "jwt") -> Holder:
        made.append(Holder(process, point, tmp_path / f"{name}.json", by))
        return made[-1]

    yield holder
    for each in made:
        each.ask("leave")


def opened(holder: Holder, **more: Any) -> dict[str, Any]:
    """The decision point serves before its own Workload API has told it the first bundle."""
    return eventually(lambda: holder.open(**more), lambda said: "task" in said)


@pytest.fixture
def tree(hold: Any, support: Process, shipping: Process) -> tuple[Holder, Holder]:
    """A task of one workload, and what it handed on to another; each has acted."""
    above, below = hold(support, "above"), hold(shipping, "below")
    assert opened(above)["bound_to"] == ["jkt"]
    assert "task" in below.accept(above.ticket(effects=["read"]))
    assert above.reads()
    assert below.reads()
    return above, below


def refused(said: Mapping[str, Any], reason: str) -> bool:
    return (said.get("refused"), said.get("reason")) == ("access_denied", reason)


def test_each_acts_within_what_it_was_given(tree: tuple[Holder, Holder], point: Point) -> None:
    above, below = tree
    assert above.act("write_note", {**ORDER, "text": "sent"}) == {"text": "order 4711: sent"}
    assert below.act("write_note", {**ORDER, "text": "mine"})["reason"] == "out_of_scope"
    assert below.act(arguments=OTHER)["reason"] == above.act(arguments=OTHER)["reason"] == "out_of_scope"
    one, two = point.entries("opened")
    assert (one["subject"]["id"], one["subject"]["assurance"]) == (SUPPORT, "svid")
    assert (two["subject"]["id"], two["subject"]["assurance"]) == (SHIPPING, "svid")
    assert {each["subject"]["id"] for each in point.entries("permitted")} == {SUPPORT, SHIPPING}


def test_a_shell_script_of_the_workload_has_its_tasks_too(hold: Any, support: Process, point: Point) -> None:
    """As docs/identity.md has it: `forestall task open --spiffe`, and a gateway with what that wrote."""
    opened(hold(support, "ready"))
    holder = hold(support, "shell")
    words = ["open", "work", "--spiffe", "--parameter", "order=4711", "--out", str(holder.grant)]
    said = holder.ask("command", words=words)
    assert said["status"] == 0, said
    assert holder.reads()
    assert point.entries("opened")[-1]["subject"]["id"] == SUPPORT


def test_a_kill_of_the_agent_refuses_both_and_it_opens_nothing_until_it_is_resumed(
    tree: tuple[Holder, Holder], point: Point
) -> None:
    above, below = tree
    said = point.order("kill", "--agent", SUPPORT, "--why", "it read a bad page")
    assert (said["tasks_ended"], said["confirmed"], said["unconfirmed"]) == (2, 2, 0)
    assert above.act()["reason"] == below.act()["reason"] == "revoked"
    assert not below.active
    assert refused(above.open(), "revoked")
    assert "task" in below.open()  # the other was never meant
    assert refused(above.open(), "revoked")
    point.order("resume", "--agent", SUPPORT)
    assert "task" in above.open()
    assert above.active


def test_a_kill_of_the_task_refuses_both_and_new_ones_are_opened(tree: tuple[Holder, Holder], point: Point) -> None:
    above, below = tree
    task = str(point.entries("opened")[0]["task"])
    assert point.order("kill", task)["tasks_ended"] == 2
    assert above.act()["reason"] == below.act()["reason"] == "revoked"
    assert (above.active, below.active) == (False, False)
    assert above.ask("leave")["status"] == below.ask("leave")["status"] == 77
    assert "task" in above.open()
    assert above.reads()


def test_a_kill_of_the_trust_domain_refuses_everybody_in_it(tree: tuple[Holder, Holder], point: Point) -> None:
    above, below = tree
    assert point.order("kill", "--trust-domain", "example.org")["tasks_ended"] == 2
    assert above.act()["reason"] == below.act()["reason"] == "revoked"
    assert refused(above.open(), "revoked")
    assert refused(below.open(), "revoked")


def test_a_task_of_a_certificate_is_handed_on_and_both_end_with_a_kill(
    hold: Any, support: Process, shipping: Process, point: Point
) -> None:
    """By X.509-SVID over mutual TLS, with no assertion and no key but the certificate's."""
    above, below = hold(support, "above", "bound"), hold(shipping, "below")
    assert opened(above)["bound_to"] == ["x5t#S256"]
    assert "task" in below.accept(above.ticket(effects=["read"]))
    assert below.reads()
    assert above.active
    # whoever has the token, and another certificate of the same authority, holds nothing
    assert "refused" in Holder(shipping, point, above.grant, "bound").ask("complete")
    assert above.active
    assert point.order("kill", "--agent", SUPPORT)["tasks_ended"] == 2
    assert below.act()["reason"] == "revoked"
    assert refused(above.open(), "revoked")
    assert not above.active


def test_a_ticket_is_for_the_workload_that_it_names(tree: tuple[Holder, Holder], hold: Any) -> None:
    above, below = tree
    thief = hold(above.process, "thief")
    assert "refused" in thief.accept(above.ticket())
    ticket = above.ticket()
    assert "task" in below.accept(ticket)
    assert "refused" in below.accept(ticket)  # once


@pytest.mark.parametrize("by", ["jwt", "certificate"])
def test_a_trust_domain_that_is_not_listed_is_refused_though_its_bundle_is_there(
    hold: Any, support: Process, stranger_actor: Process, point: Point, by: str
) -> None:
    opened(hold(support, "ours", by))
    said = hold(stranger_actor, "theirs", by).open()
    if by == "certificate":  # TLS asks for one of an authority that is accepted, and ends with any other
        assert "does not answer" in said["unavailable"]
    else:
        assert said["refused"] == "invalid_client"
        assert "wrong_trust_domain" in point.denial(said["decision"])["detail"]
    assert len(point.entries("opened")) == 1


@pytest.mark.parametrize("by", ["jwt", "certificate"])
def test_an_svid_that_is_renewed_leaves_the_task_as_it_was(
    domain: Domain, executable: Make, running: Start, hold: Any, shipping: Process, by: str
) -> None:
    made = executable(f"brief-{by}")
    domain.register(f"/brief-{by}", [made.by_path], "-x509SVIDTTL", "20", "-jwtSVIDTTL", "10")
    process = running(made, domain, ACTOR)
    process.live()
    above, below = hold(process, "above", by), hold(shipping, "below")
    task = opened(above, lifetime_s=300)["task"]
    assert above.reads()
    token, audience = process.token(above.point.url), above.point.url
    svid = process.svid()
    while (renewed := process.svid(unlike={"thumbprint": svid["thumbprint"]})) and process.token(audience) == token:
        svid = renewed
    assert process.token(audience) != token
    assert above.reads()
    assert above.ask("extend", expires_at=now() + 600_000)["task"] == task
    assert "task" in below.accept(above.ticket())
    assert below.reads()
    assert above.ask("complete") == {"done": True}
    assert below.act()["reason"] in {"task_ended", "no_grant"}


def test_a_task_that_is_bound_to_a_certificate_ends_with_it_for_its_holder(
    domain: Domain, executable: Make, running: Start, hold: Any
) -> None:
    made = executable("bound")
    domain.register("/bound", [made.by_path], "-x509SVIDTTL", "20")
    process = running(made, domain, ACTOR)
    process.live()
    holder = hold(process, "held", "bound")
    opened(holder)
    ticket = holder.ask("delegate", to=SHIPPING, narrower={})
    assert "ticket" in ticket
    first = process.svid()
    process.svid(unlike={"thumbprint": first["thumbprint"]})
    assert "refused" in holder.ask("delegate", to=SHIPPING, narrower={})
    assert "refused" in holder.ask("extend", expires_at=now() + 600_000)
    assert "refused" in holder.ask("complete")


@contextmanager
def stopped(domain: Domain, *processes: Process) -> Iterator[None]:
    """Without SPIRE's agent; with it again, and everybody has heard everything, when that is over."""
    domain.agent.stop()
    try:
        yield
    finally:
        domain.start_agent()
        for each in processes:
            each.live()


def test_without_spires_agent_nothing_new_begins_after_the_bound_and_what_is_open_goes_on(
    domain: Domain, tree: tuple[Holder, Holder], point: Point, hold: Any, support: Process, shipping: Process
) -> None:
    above, below = tree
    token = support.token(point.url)
    fresh = hold(support, "fresh")
    with stopped(domain, support, shipping):
        assert "task" in fresh.open(token=token)  # within the bound, 20 s here
        said = eventually(lambda: fresh.open(token=token), lambda said: "refused" in said)
        assert said["refused"] == "invalid_client"
        assert "no_bundle" in point.denial(said["decision"])["detail"]
        # what is open goes on: its grant is checked by what the decision point knows itself
        assert above.reads()
        assert below.reads()
        # and is neither handed on nor let live longer: who asks for that has to be somebody
        assert above.ask("delegate", to=SHIPPING, narrower={}, token=token)["refused"] == "invalid_client"
        # what takes it back needs no SPIRE
        assert point.order("kill", "--agent", SHIPPING)["tasks_ended"] == 1
        assert below.act()["reason"] == "revoked"
        assert above.reads()
    assert "task" in opened(fresh)
