from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from forestall.core.effects import Effect
from forestall.core.errors import PolicyInvalid
from forestall.core.label import CLEAN, WORST
from forestall.core.model import Approval, Decision, Executable, RealPath
from forestall.core.reason import Reason
from forestall.policy import slice as slices
from forestall.policy.cedar import CedarEngine
from forestall.policy.schema import METHOD_TOOL
from tests.unit.policy.world import (
    DELETE_FILE,
    PERMIT_ALL,
    READ_FILE,
    SEND,
    STRING,
    WRITE_FILE,
    ask,
    engine,
    question,
    schema,
    tool,
)

READS = '@id("reads") permit (principal, action in Action::"read", resource);'
APPROVED = "context has approval && context.approval.granted"


def forbid(condition: str, name: str = "no", more: str = "") -> str:
    return f'@id("{name}") {more} forbid (principal, action, resource) when {{ {condition} }};'


def asking(name: str, approvers: str, more: str = "", action: str = "action") -> str:
    return (
        f'@id("{name}") @approvers("{approvers}") {more} permit (principal, {action}, resource) when {{ {APPROVED} }};'
    )


def test_nothing_is_permitted_without_a_policy() -> None:
    ruling = ask(engine(), READ_FILE, path="a")
    assert (ruling.decision, ruling.reason, ruling.policies) == (Decision.DENY, Reason.NO_POLICY, ())


def test_a_permit_permits_and_is_named() -> None:
    ruling = ask(engine(READS), READ_FILE, path="a")
    assert (ruling.decision, ruling.reason, ruling.policies) == (Decision.PERMIT, None, ("reads",))


def test_a_forbid_overrides_a_permit_and_is_named() -> None:
    ruling = ask(engine(READS, forbid('context.args has path && context.args.path == "a"')), READ_FILE, path="a")
    assert (ruling.decision, ruling.reason, ruling.policies) == (Decision.DENY, Reason.FORBIDDEN, ("no",))


def test_a_permit_reaches_no_other_effect() -> None:
    assert ask(engine(READS), WRITE_FILE, path="a").reason is Reason.NO_POLICY


def test_arguments_that_do_not_fit_are_denied_by_name_and_never_by_value() -> None:
    ruling = ask(engine(PERMIT_ALL), READ_FILE, path={"hunter2": "hunter2"})
    assert ruling.reason is Reason.INVALID_ARGUMENTS
    assert "`path`" in ruling.detail
    assert "hunter2" not in ruling.detail


def test_own_files_are_out_of_reach_of_every_policy() -> None:
    ruling = engine(PERMIT_ALL, asking("ask", "ann")).evaluate(question(READ_FILE, {"path": "a"}, own_files=True))
    assert (ruling.decision, ruling.policies) == (Decision.DENY, ("forestall:own-files",))


def test_what_a_task_has_seen_bears_on_the_decision() -> None:
    built = engine(
        PERMIT_ALL, forbid('context.labels.integrity == "untrusted" && context.effects.contains("external")')
    )
    assert built.evaluate(question(SEND, {"to": ["a"]}, labels=CLEAN)).decision is Decision.PERMIT
    assert built.evaluate(question(SEND, {"to": ["a"]}, labels=WORST)).reason is Reason.FORBIDDEN
    assert built.evaluate(question(READ_FILE, {"path": "a"}, labels=WORST)).decision is Decision.PERMIT


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('context.task.id == "t1" && context.task.purpose == "report" && context.task.mandate == "default"', True),
        ("context.task.depth == 0", True),
        ('context.confidence == "declared" && context.assurance == "local"', True),
        ('context.asserted_name == "a client" && principal == Workload::"agent"', True),
        ('context.output.integrity == "untrusted" && context.output.confidentiality == "secret"', True),
        ("context.reversible", False),
        ('resource == Server::"fs"', True),
        ("context has approval", False),
        ("context.args has content", False),
    ],
)
def test_the_context_holds_what_is_documented(condition: str, holds: bool) -> None:
    built = engine(f'@approvers("a") permit (principal, action, resource) when {{ {condition} || {APPROVED} }};')
    assert ask(built, WRITE_FILE, path="a").decision is (Decision.PERMIT if holds else Decision.HOLD)


RUNS = Executable("/opt/agent", "sha256:0", interpreter=False, same_uid=False)


@pytest.mark.parametrize(
    ("condition", "executable", "holds"),
    [
        ('context has executable && context.executable.digest == "sha256:0"', RUNS, True),
        ('context has executable && context.executable.path like "/opt/*"', RUNS, True),
        ("context has executable && !context.executable.interpreter && !context.executable.same_uid", RUNS, True),
        ("context has executable && !context.executable.interpreter", Executable("/usr/bin/python3"), False),
        ("context has executable && context.executable.same_uid", Executable("/usr/bin/python3"), True),
        ("context has executable", None, False),
    ],
)
def test_what_a_workload_runs_is_there_where_it_was_seen(
    condition: str, executable: Executable | None, holds: bool
) -> None:
    built = engine(f"permit (principal, action, resource) when {{ {condition} }};")
    asked = question(WRITE_FILE, {"path": "a"})
    found = built.evaluate(replace(asked, subject=replace(asked.subject, executable=executable)))
    assert found.decision is (Decision.PERMIT if holds else Decision.DENY)


def test_a_graver_effect_of_this_call_puts_it_into_the_graver_group() -> None:
    built = engine(PERMIT_ALL, '@id("no") forbid (principal, action in Action::"destructive", resource);')
    assert ask(built, WRITE_FILE, path="a").decision is Decision.PERMIT
    graver = question(WRITE_FILE, {"path": "a"}, effects=frozenset({Effect.DESTRUCTIVE}))
    assert built.evaluate(graver).policies == ("no",)
    assert built.evaluate(graver).slice_digest != ask(built, WRITE_FILE, path="a").slice_digest


def test_a_graver_effect_takes_a_read_out_of_the_reads() -> None:
    graver = question(READ_FILE, {"path": "a"}, effects=frozenset({Effect.READ, Effect.EXTERNAL}))
    assert engine(READS).evaluate(graver).reason is Reason.NO_POLICY


def test_milder_facts_lower_nothing() -> None:
    built = engine(PERMIT_ALL, '@id("no") forbid (principal, action in Action::"destructive", resource);')
    milder = question(DELETE_FILE, {"path": "a"}, effects=frozenset({Effect.READ}))
    assert built.evaluate(milder).policies == ("no",)


INSIDE = """permit (principal, action, resource)
when { context.paths has path.inside && context.paths.path.inside like "r/*" };"""


@pytest.mark.parametrize(
    ("paths", "decision"),
    [
        ({"path": (RealPath("/home/r/a", "r/a"),)}, Decision.PERMIT),
        ({"path": (RealPath("/etc/passwd"),)}, Decision.DENY),
        ({"path": (RealPath("/home/s/a", "s/a"),)}, Decision.DENY),
        ({}, Decision.DENY),
        ({"path": ()}, Decision.DENY),
        ({"path": (RealPath("/home/r/a", "r/a"), RealPath("/home/r/b", "r/b"))}, Decision.DENY),
        ({"content": (RealPath("/home/r/a", "r/a"),)}, Decision.DENY),
    ],
)
def test_real_paths_are_what_the_facts_say(paths: dict[str, tuple[RealPath, ...]], decision: Decision) -> None:
    assert engine(INSIDE).evaluate(question(WRITE_FILE, {"path": "r/../r/a"}, paths=paths)).decision is decision


def test_real_paths_of_an_array_are_a_set() -> None:
    add = tool("add", control=frozenset({"files"}), input_schema=schema(files={"type": "array", "items": STRING}))
    known = '["a", "b"].containsAll(context.paths.files.inside)'
    condition = f"context.paths has files && context.paths.files.all_inside && {known}"
    built = engine(f"permit (principal, action, resource) when {{ {condition} }};", tools=(add,))
    inside, outside = RealPath("/d/a", "a"), RealPath("/etc/x")
    for paths, decision in (((inside,), Decision.PERMIT), ((inside, outside), Decision.DENY), ((), Decision.PERMIT)):
        assert built.evaluate(question(add, {"files": []}, paths={"files": paths})).decision is decision


@pytest.mark.parametrize(
    ("inside", "decision"),
    [
        (["r/a"], Decision.PERMIT),
        (["r/a", "r/b"], Decision.PERMIT),
        (["r/a", "r/s/b"], Decision.PERMIT),
        (["r/a", "b"], Decision.DENY),
        (["r/a", "rs/b"], Decision.DENY),
        (["r"], Decision.DENY),
        ([None], Decision.DENY),
        (["r/a", None], Decision.DENY),
        ([], Decision.DENY),
    ],
)
def test_the_folder_of_an_array_holds_all_of_its_paths(inside: list[str | None], decision: Decision) -> None:
    add = tool("add", control=frozenset({"files"}), input_schema=schema(files={"type": "array", "items": STRING}))
    condition = 'context.paths has files.folder && context.paths.files.folder == "r"'
    built = engine(f"permit (principal, action, resource) when {{ {condition} }};", tools=(add,))
    paths = tuple(RealPath(f"/d/{path}", path) for path in inside)
    assert built.evaluate(question(add, {"files": []}, paths={"files": paths})).decision is decision


def test_a_permit_that_asks_for_approval_holds() -> None:
    ruling = ask(engine(asking("ask", "ann, bob", '@quorum("2") @expires("1h")')), DELETE_FILE, path="a")
    assert (ruling.decision, ruling.reason, ruling.policies) == (Decision.HOLD, Reason.NEEDS_APPROVAL, ("ask",))
    assert ruling.approvals == (Approval(("ann", "bob"), 2, 3_600_000),)


def test_a_forbid_that_an_approval_lifts_holds() -> None:
    built = engine(PERMIT_ALL, forbid(f"!({APPROVED})", more='@approvers("ann")'))
    ruling = ask(built, DELETE_FILE, path="a")
    assert (ruling.decision, ruling.policies) == (Decision.HOLD, ("no",))
    assert ruling.approvals == (Approval(("ann",)),)


def test_where_several_ask_all_must_be_met() -> None:
    built = engine(asking("one", "ann"), asking("two", "bob"), forbid(f"!({APPROVED})", more='@approvers("cid")'))
    ruling = ask(built, DELETE_FILE, path="a")
    assert ruling.decision is Decision.HOLD
    assert {approval.approvers for approval in ruling.approvals} == {("ann",), ("bob",), ("cid",)}


def test_a_permit_that_a_forbid_masked_asks_for_nothing() -> None:
    built = engine(READS, forbid(f"!({APPROVED})", more='@approvers("ann")'))
    ruling = ask(built, READ_FILE, path="a")
    assert (ruling.decision, ruling.policies) == (Decision.HOLD, ("no",))


def test_an_approval_does_not_override_a_forbid_that_does_not_mention_it() -> None:
    built = engine(asking("ask", "ann"), forbid("context.task.depth == 0"))
    ruling = ask(built, DELETE_FILE, path="a")
    assert (ruling.decision, ruling.reason, ruling.policies) == (Decision.DENY, Reason.FORBIDDEN, ("no",))


def test_an_approval_that_would_not_permit_is_not_asked_for() -> None:
    built = engine(forbid(f"!({APPROVED})", more='@approvers("ann")'))
    assert ask(built, DELETE_FILE, path="a").reason is Reason.FORBIDDEN
    built = engine(asking("ask", "ann", action='action == Action::"fs/read_file"'))
    assert ask(built, DELETE_FILE, path="a").reason is Reason.NO_POLICY


def test_a_permit_in_the_first_pass_asks_nobody() -> None:
    assert ask(engine(READS, asking("ask", "ann")), READ_FILE, path="a").decision is Decision.PERMIT


def test_a_permit_brings_its_credential() -> None:
    assert ask(engine(f'@credential("git:write") {READS}'), READ_FILE, path="a").credential == "git:write"


def test_two_credentials_for_one_call_are_an_error() -> None:
    built = engine(f'@credential("a") {READS}', f'@credential("b") {PERMIT_ALL}')
    assert ask(built, READ_FILE, path="a").reason is Reason.POLICY_ERROR
    assert ask(built, WRITE_FILE, path="a").credential == "b"


def test_an_unknown_method_is_denied_unless_policy_names_it() -> None:
    method = tool("vendor/new", server="mcp")
    assert ask(engine(READS), method).reason is Reason.NO_POLICY
    named = (
        'permit (principal, action == Action::"mcp/unknown", resource) when { context.args.method == "vendor/new" };'
    )
    assert ask(engine(named), method).decision is Decision.PERMIT
    assert ask(engine(named), tool("vendor/other", server="mcp")).reason is Reason.NO_POLICY
    assert ask(engine(PERMIT_ALL, forbid("context.args has method")), method).reason is Reason.FORBIDDEN
    from_server = question(METHOD_TOOL, {"method": "vendor/new", "direction": "server"})
    assert engine(named).evaluate(from_server).decision is Decision.PERMIT
    client = 'context.args has direction && context.args.direction != "client"'
    assert engine(named, forbid(client)).evaluate(from_server).reason is Reason.FORBIDDEN


def test_a_tool_that_the_policy_was_not_built_with_is_denied() -> None:
    built = engine(PERMIT_ALL)
    assert ask(built, tool("other")).reason is Reason.POLICY_ERROR
    assert ask(built, replace(READ_FILE, pin="sha256:other"), path="a").reason is Reason.POLICY_ERROR
    assert not built.could_permit(tool("other"))


@pytest.mark.parametrize(
    ("text", "could"),
    [
        ("", False),
        (READS, True),
        ('permit (principal, action in Action::"destructive", resource);', False),
        ('permit (principal, action, resource == Server::"mail");', False),
        ('permit (principal, action, resource is Server in Server::"fs");', True),
        ('permit (principal == Workload::"someone", action, resource);', True),
        (asking("ask", "ann"), True),
        (f'{PERMIT_ALL} forbid (principal, action in Action::"read", resource);', False),
        (f"{PERMIT_ALL} forbid (principal is Workload, action, resource);", False),
        (f'{PERMIT_ALL} forbid (principal == Workload::"someone", action, resource);', True),
        (f'{PERMIT_ALL} forbid (principal, action in Action::"write", resource);', True),
    ],
)
def test_a_tool_is_hidden_only_where_nothing_could_permit_it(text: str, could: bool) -> None:
    assert engine(text).could_permit(READ_FILE) is could


def test_the_digest_is_of_what_the_policies_mean() -> None:
    one = engine(READS, forbid("context.own_files"))
    assert one.digest == engine(forbid("context.own_files  "), f"// a comment\n{READS}").digest
    assert one.digest != engine(READS, forbid("!context.own_files")).digest
    assert one.digest != engine(READS, forbid("context.own_files", more='@description("new")')).digest
    assert one.digest != engine(READS, forbid("context.own_files"), tools=(READ_FILE,)).digest


def test_an_unrelated_policy_leaves_the_digest_of_a_slice_alone() -> None:
    unrelated = 'permit (principal, action == Action::"mail/send", resource);'
    one, other = engine(READS), engine(READS, unrelated)
    assert one.digest != other.digest
    assert ask(one, READ_FILE, path="a").slice_digest == ask(other, READ_FILE, path="a").slice_digest
    assert ask(one, SEND, to=[]).slice_digest != ask(other, SEND, to=[]).slice_digest


def test_a_policy_that_fails_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise BaseException("as a panic of the Rust side does")  # noqa: TRY002

    built = engine(PERMIT_ALL)
    monkeypatch.setattr("cedarpy.is_authorized", crash)
    ruling = ask(built, READ_FILE, path="a")
    assert (ruling.decision, ruling.reason) == (Decision.DENY, Reason.POLICY_ERROR)


def test_one_engine_serves_many_threads() -> None:
    built = engine(READS, asking("ask", "ann"), forbid('context.args has path && context.args.path == "b"'))
    wrong: list[object] = []

    def work() -> None:
        for _ in range(50):
            for effects in (frozenset[Effect](), frozenset({Effect.EXECUTE}), frozenset({Effect.PRIVILEGE})):
                wanted = Decision.HOLD if effects else Decision.PERMIT
                got = built.evaluate(question(READ_FILE, {"path": "a"}, effects=effects or READ_FILE.effects))
                if got.decision is not wanted or ask(built, READ_FILE, path="b").reason is not Reason.FORBIDDEN:
                    wrong.append(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_the_engine_passes_its_own_test() -> None:
    engine(READS).self_test()


def test_an_engine_shows_no_argument_when_it_is_printed() -> None:
    assert "hunter2" not in repr(question(READ_FILE, {"path": "hunter2"}))
    assert len(repr(engine(READS))) < 5_000
    assert isinstance(engine(READS), CedarEngine)


def test_what_no_policy_looks_at_is_checked_and_not_sent() -> None:
    built = engine(
        'permit (principal, action, resource) when { context.args has mode && context.args.mode == "append" };'
    )
    part = built.slice_for(WRITE_FILE)
    asked = question(WRITE_FILE, {"path": "a", "content": "long", "mode": "append"})
    assert sorted(built.context(asked, part).values()) == [False, True, True]  # own_files; has mode, and its test
    assert built.evaluate(asked).decision is Decision.PERMIT
    assert ask(built, WRITE_FILE, path="a", content=3, mode="append").reason is Reason.INVALID_ARGUMENTS


def test_what_is_used_as_a_whole_is_sent_as_a_whole() -> None:
    for whole in ("[context].contains(context)", "[context.args].contains(context.args)"):
        text = f'@approvers("a") permit (principal, action, resource) when {{ {whole} }};'
        built = engine(text if "context]" in whole else text.removeprefix('@approvers("a") '))
        arguments = {"path": "a", "content": "long"}
        assert built.context(question(WRITE_FILE, arguments), built.slice_for(WRITE_FILE))["args"] == arguments


def test_an_answer_is_remembered_for_exactly_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    built = engine(
        PERMIT_ALL,
        forbid('context.args has path && context.args.path == "b"'),
        'forbid (principal, action == Action::"fs/read_file", resource) when '
        "{ context.args.path == context.task.purpose };",
    )
    part = built.slice_for(READ_FILE)
    assert ask(built, READ_FILE, path="a").decision is Decision.PERMIT
    assert ask(built, READ_FILE, path="b").reason is Reason.FORBIDDEN
    monkeypatch.setattr("cedarpy.is_authorized", lambda *_: pytest.fail("asked again"))
    assert ask(built, READ_FILE, path="a").decision is Decision.PERMIT
    assert ask(built, READ_FILE, path="b").reason is Reason.FORBIDDEN
    monkeypatch.undo()
    for number in range(2 * slices.MAX_REMEMBERED):
        part.ask("agent", built.context(question(READ_FILE, {"path": f"{number}"}), part))
    part.ask("agent", built.context(question(READ_FILE, {"path": "x" * slices.MAX_REMEMBERED_TEXT}), part))
    remembered = part._remembered
    assert 0 < len(remembered) <= slices.MAX_REMEMBERED
    assert all(len(text) <= slices.MAX_REMEMBERED_TEXT for _, text in remembered)


def test_a_failure_is_not_remembered() -> None:
    part = engine(PERMIT_ALL).slice_for(READ_FILE)
    assert part.ask("agent", {}).error is not None
    assert not part._remembered


NO_A = forbid('context.args has path && context.args.path == "a"', more="@after_upstream")


@pytest.mark.parametrize(
    ("texts", "arguments", "waits"),
    [
        ([READS], {"path": "a"}, False),
        (["@after_upstream " + READS], {"path": "a"}, True),
        ([READS, "@after_upstream " + READS.replace("reads", "too")], {"path": "a"}, True),
        (
            [READS, forbid('context.args has path && context.args.path == "a"', more="@after_upstream")],
            {"path": "a"},
            True,
        ),
        (
            [READS, forbid('context.args has path && context.args.path == "a"', more="@after_upstream")],
            {"path": "b"},
            False,
        ),
    ],
)
def test_only_policies_that_decided_make_a_call_wait_for_what_is_above(
    texts: list[str], arguments: dict[str, str], waits: bool
) -> None:
    assert ask(engine(*texts), READ_FILE, **arguments).after_upstream is waits


def test_a_hold_may_have_to_wait_too() -> None:
    ruling = ask(engine(asking("ask", "ann", "@after_upstream")), DELETE_FILE, path="a")
    assert (ruling.decision, ruling.after_upstream) == (Decision.HOLD, True)


def test_waiting_has_no_more_to_say() -> None:
    with pytest.raises(PolicyInvalid, match="after_upstream"):
        engine('@after_upstream("never") ' + READS)
