from __future__ import annotations

import pytest

from forestall.core.effects import Effect
from forestall.core.errors import PolicyInvalid
from forestall.core.reason import Reason
from forestall.policy import bundle
from forestall.policy.bundle import Bundle
from forestall.policy.cedar import CedarEngine
from forestall.policy.problem import Severity
from tests.unit.policy.world import PERMIT_ALL, STRING, TOOLS, ask, engine, problems, schema, tool


def when(condition: str, scope: str = "action", effect: str = "forbid") -> str:
    return f"{effect} (principal, {scope}, resource)\nwhen {{ {condition} }};"


IN_READ = 'action in Action::"read"'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        # Cedar's own validation, with places and hints
        (when("context.args.pth == 3"), "a.cedar:2:21", "Did you mean `path`?"),
        (when("context.labls.integrity == 3"), "a.cedar:2:16", "Did you mean `labels`?"),
        (when('context.args.mode == "append"', 'action == Action::"fs/write_file"'), "a.cedar:2:21", "context has"),
        (when("context.own_files == 3"), "a.cedar:1:1", "not compatible"),
        ('permit (principal, action == Action::"fs/raed_file", resource);', "a.cedar:1:38", "`fs/read_file`?"),
        ('permit (principal,\n action in Action::"reed", resource);', "a.cedar:2:20", "Did you mean `read`?"),
        ('permit (principal, action in [Action::"read", Action::"reed"], resource);', "a.cedar:1:55", "`read`?"),
        ('permit (principal == User::"a", action, resource);', "a.cedar:1:22", "nrecognized entity type"),
        # a misspelt attribute behind `has`
        (
            when("context.args has pth"),
            "a.cedar:2:25",
            "no `context.args.pth` here, so this is never true. Did you mean",
        ),
        (when("context has aproval"), "a.cedar:2:20", "Did you mean `approval`?"),
        (when("context.paths has path.insid"), "a.cedar:2:31", "Did you mean `inside`?"),
        (when("principal has nme"), "a.cedar:2:22", "no `principal.nme`"),
        (when("resource has owner"), "a.cedar:2:21", "no `resource.owner`"),
        (when("(if true then context.args else context.args) has path"), "a.cedar:2:54", "cannot be checked"),
        (when("context.args has mode", IN_READ), "a.cedar:2:25", "no `context.args.mode`"),
        # a misspelt value
        (when('context.labels.integrity == "untrustd"'), "a.cedar:2:36", "Did you mean `untrusted`?"),
        (when('"Secret" != context.labels.confidentiality'), "a.cedar:2:8", "never `Secret`"),
        (when('context.effects.contains("externl")'), "a.cedar:2:33", "Did you mean `external`?"),
        (when('["public", "internl"].contains(context.output.confidentiality)'), "a.cedar:2:19", "`internal`?"),
        (when('context.effects.containsAny(["exec"])'), "a.cedar:2:37", "never `exec`"),
        (when('context.args has mode && context.args.mode == "apend"'), "a.cedar:2:54", "Did you mean `append`?"),
        # a misspelt server
        ('forbid (principal, action, resource == Server::"fsx");', "a.cedar:1:48", "Did you mean `fs`?"),
        ('forbid (principal, action, resource in Server::"fsx");', "a.cedar:1:48", "No server is called `fsx`"),
        (when('resource == Server::"fsx"'), "a.cedar:2:28", "No server is called `fsx`"),
        (when('[Server::"fs", Server::"mial"].contains(resource)'), "a.cedar:2:31", "Did you mean `mail`?"),
        # arithmetic
        (when("context.args has copies && context.args.copies * 9007199254740991 > 1"), "a.cedar:1:1", "overflow"),
        # annotations
        (f'@approvers("ann") {PERMIT_ALL}', "a.cedar:1:2", "does not look at `context.approval`"),
        (when("context has approval"), "a.cedar:2:20", "add `@approvers`"),
        (when("{a: context}.a has approval"), "a.cedar:2:23", "cannot be checked"),
        (f'@approvers(" , ") {when("context has approval")}', "a.cedar:1:2", "names nobody"),
        (f'@approvers("a") @quorum("2") {when("context has approval")}', "a.cedar:1:18", "2 of 1"),
        (f'@approvers("a") @quorum("two") {when("context has approval")}', "a.cedar:1:18", "whole number"),
        (f'@approvers("a") @expires("soon") {when("context has approval")}', "a.cedar:1:18", "duration"),
        (f'@approvers("a") @expires("0m") {when("context has approval")}', "a.cedar:1:18", "duration"),
        (f'@quorum("2") {PERMIT_ALL}', "a.cedar:1:2", "without `@approvers`"),
        (f'@credential("a b") {PERMIT_ALL}', "a.cedar:1:2", "class of credential"),
        (f'@credential("git") {when("context.own_files")}', "a.cedar:1:2", "belongs on a permit"),
        (f'@reaches("everything") {PERMIT_ALL}', "a.cedar:1:2", "`everything` is not an effect"),
        # a permit on a group that reaches a graver effect
        (
            'permit (principal, action in Action::"write", resource);',
            "a.cedar:1:1",
            "`mail/send`, which is also `external`",
        ),
    ],
)
def test_an_error_is_found_where_it_is(text: str, place: str, words: str) -> None:
    found = problems(text)
    matching = [one for one in found if str(one).startswith(f"{place}: ") and words in one.sentence]
    assert matching, found
    assert matching[0].severity is Severity.ERROR
    with pytest.raises(PolicyInvalid):
        engine(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PERMIT_ALL, "permits every tool"),
        (f'@approvers("ann") {when("context has approval")}', "Nobody can be `ann`"),
        (f'@aprover("x") {when("context.own_files")}', "`@aprover` means nothing here. Did you mean `approvers`?"),
        (
            'permit (principal, action in Action::"execute", resource);',
            "No tool in the catalogue has the effect `execute`",
        ),
        (when('context.args.path like "reports/*"', IN_READ, "permit"), "match `context.paths.path.inside`"),
        (when('context.args.path like "*.md"', IN_READ), "`..` and links pass"),
        (when('context.args.path like "https://good.example*"', IN_READ, "permit"), "hosts that only begin so"),
    ],
)
def test_a_warning_does_not_stop_the_engine(text: str, words: str) -> None:
    (found,) = [one for one in problems(text) if words in one.sentence]
    assert found.severity is Severity.WARNING
    assert "warning: " in str(found)
    assert engine(text).digest


@pytest.mark.parametrize(
    "text",
    [
        'permit (principal, action in Action::"read", resource);',
        '@reaches("external") permit (principal, action in Action::"write", resource);',
        'permit (principal, action in [Action::"write", Action::"external"], resource);',
        'permit (principal, action in Action::"write", resource == Server::"fs");',
        when('context.paths has path.inside && context.paths.path.inside like "reports/*"', effect="permit"),
        when('context.args.path like "https://good.example/*"', IN_READ, "permit"),
        when('context.args.path == "a"', IN_READ, "permit"),
        '@raw("path, other") ' + when('context.args.path like "v1.*"', IN_READ),
        when("context.args has copies && context.args.copies + 1 - 2 * 3 > 1"),
        when("context.args has copies && -context.args.copies * 100 < (if context.own_files then 1 else 2)"),
        when('context.effects.contains("external") && context.labels.integrity == "untrusted"'),
        when('context.args has mode && ["append", "replace"].contains(context.args.mode)'),
        f'@approvers("group:security") @quorum("3") {when("context has approval", effect="permit")}',
        f'@approvers("local") @quorum("2") {when("context has approval", effect="permit")}',
        f'@approvers("user:a, uid:7") @quorum("2") @expires("1h") {when("context has approval", effect="permit")}',
        f'@credential("git:write") {when("context.own_files", effect="permit")}',
        when("context.args has approval || context.own_files", 'action == Action::"s/ask"'),
        when('principal has assurance && principal.assurance == "local"'),
        when('[Server::"fs", Server::"mcp", Server::"forestall"].contains(resource)'),
        'forbid (principal in Workload::"fsx", action, resource == Server::"mail");',
    ],
)
def test_a_sound_policy_has_no_problem(text: str) -> None:
    asks = tool("ask", server="s", input_schema=schema(approval=STRING))
    assert problems(text, tools=(*TOOLS, asks)) == []


def test_an_unguarded_argument_of_one_tool_among_many_is_one_error() -> None:
    (found,) = problems(when('context.args.path == "x"'))
    assert "not found" in found.sentence


def test_the_builtin_policies_cannot_be_left_out_or_replaced() -> None:
    own = bundle.builtin()
    without = Bundle(
        tuple(policy for policy in bundle.from_texts({"a.cedar": PERMIT_ALL}).policies if policy not in own)
    )
    with pytest.raises(PolicyInvalid, match="missing or changed"):
        CedarEngine.build(without, TOOLS)


def test_two_policies_of_one_id_are_refused_however_they_come() -> None:
    one = bundle.from_texts({"a.cedar": PERMIT_ALL}).policies
    other = bundle.from_texts({"a.cedar": when("context.own_files")}).policies
    with pytest.raises(PolicyInvalid, match="`a:1` is taken"):
        CedarEngine.build(Bundle((*one, other[-1])), TOOLS)


def test_a_group_permit_may_reach_a_graver_tool_that_it_names() -> None:
    assert not problems('permit (principal, action in [Action::"write", Action::"mail/send"], resource);')


def test_two_tools_of_one_id_are_refused() -> None:
    with pytest.raises(PolicyInvalid, match="`a/b/c` is there twice"):
        engine(tools=(tool("b/c", server="a"), tool("c", server="a/b")))
    with pytest.raises(PolicyInvalid, match="reserved"):
        engine(tools=(tool("unknown", Effect.READ, server="mcp"),))


def test_a_permit_on_a_group_is_no_permit_for_unknown_methods() -> None:
    built = engine('permit (principal, action in [Action::"external", Action::"destructive"], resource);')
    method = tool("vendor/new", server="mcp")
    assert not built.could_permit(method)
    assert ask(built, method).reason is Reason.NO_POLICY
