"""Missing, malformed and unknown files: one sentence that says what to do, the documented exit code, and no effect."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.attack.scratch import Scratch, answers, call, directory, put, remove, swap

SETTINGS, POLICY, REVIEW = "forestall.toml", "policy/own.cedar", "catalogue/plain.toml"
DEFINITIONS, MANDATE = "catalogue/plain.json", "policy/mandates/default.toml"

Broken = tuple[Callable[[Scratch], object], str]
"""How it is broken, and how the sentence begins; {h} is the home."""

FILES: dict[str, Broken] = {
    "settings that are no TOML": (
        put(SETTINGS, "[serve]\nidle_exit_s = = 3\n"),
        "{h}/forestall.toml:2:15: This is not TOML: Invalid value.",
    ),
    "an unknown section": (
        put(SETTINGS, "\n[sevre]\n"),
        "{h}/forestall.toml:2: unknown section `sevre`; did you mean `serve`?",
    ),
    "an unknown setting": (
        put(SETTINGS, "[serve]\n\nidle_exit = 3\n"),
        "{h}/forestall.toml:3: unknown key `idle_exit` in [serve]; did you mean `idle_exit_s`?",
    ),
    "a setting out of bounds": (
        put(SETTINGS, "[serve]\nidle_exit_s = -3\n"),
        "{h}/forestall.toml:2: `idle_exit_s` is a whole number from 1 to 86400.",
    ),
    "settings that are no text": (put(SETTINGS, b"\xff\xfe"), "{h}/forestall.toml is not UTF-8; save it as UTF-8."),
    "settings that are a directory": (
        directory(SETTINGS),
        "{h}/forestall.toml cannot be read: Is a directory; move what is in its place.",
    ),
    "a socket that is too long": (
        put(SETTINGS, f"[serve]\nsocket = '/{'s' * 120}'\n"),
        "/sss",
    ),
    "a policy that does not parse": (
        put(POLICY, '\n@id("a")\npermit (principal, action, resource) whenn { true };\n'),
        "{h}/policy/own.cedar:3:38: This does not parse: invalid policy condition: whenn.",
    ),
    "a policy about an unknown tool": (
        put(POLICY, 'permit (principal, action == Action::"plain/ehco", resource);'),
        "{h}/policy/own.cedar:1:38: No tool and no group of effects is called `plain/ehco`. Did you mean `plain/echo`?",
    ),
    "a policy about an unknown argument": (
        put(POLICY, 'permit (principal, action == Action::"plain/echo", resource)\nwhen { context.args.b == 1 };'),
        "{h}/policy/own.cedar:2:21: Attribute `args.b`",
    ),
    "a policy that is no text": (
        put(POLICY, b"\xff\xfe"),
        "{h}/policy/own.cedar: The file is not UTF-8; save it as UTF-8.",
    ),
    "a policy that is a directory": (
        directory(POLICY),
        "{h}/policy/own.cedar: The file cannot be read: Is a directory; move what is in its place.",
    ),
    "a catalogue that is no TOML": (
        swap(REVIEW, "[tools.echo]", "[tools.echo"),
        "{h}/catalogue/plain.toml:21:12: This is not TOML: ",
    ),
    "an unknown key in the catalogue": (
        swap(REVIEW, "output = {", "outptu = {"),
        "{h}/catalogue/plain.toml:25: tool 'echo': unknown key 'outptu'; did you mean 'output'?",
    ),
    "an unknown effect": (
        swap(REVIEW, '"external"', '"externl"'),
        "{h}/catalogue/plain.toml:23: tool 'echo': `effects` cannot be 'externl'; it is one of read, write, ",
    ),
    "a catalogue of another format": (
        swap(REVIEW, "format = 1", "format = 2"),
        "{h}/catalogue/plain.toml:17: `format` must be 1; this version reads no other.",
    ),
    "a catalogue of another server": (
        swap(REVIEW, 'server = "plain"', 'server = "plan"'),
        "{h}/catalogue/plain.toml:18: `server` must be 'plain', as the file is named.",
    ),
    "a catalogue that is no text": (
        put(REVIEW, b"\xff\xfe"),
        "{h}/catalogue/plain.toml: not UTF-8; save it as UTF-8.",
    ),
    "no definitions": (
        remove(DEFINITIONS),
        "{h}/catalogue/plain.json is missing. Restore it from a copy, or remove it and the TOML file",
    ),
    "definitions that are no JSON": (
        swap(DEFINITIONS, '"server"', "server"),
        "{h}/catalogue/plain.json: The message is not JSON: ",
    ),
    "a definition that was changed": (
        swap(DEFINITIONS, '"integer"', '"number"'),
        "{h}/catalogue/plain.toml:187: tool 'ask_client': `pin` is not the digest of the definition in plain.json, ",
    ),
    "no pin": (
        swap(REVIEW, "\npin = ", "\n# pin = "),
        "{h}/catalogue/plain.toml:21: tool 'echo': `pin` must be \"sha256:\" and 64 hex digits; `forestall init`",
    ),
    "a pin that is none": (
        swap(REVIEW, "sha256:", "sha512:"),
        "{h}/catalogue/plain.toml:27: tool 'echo': `pin` must be \"sha256:\" and 64 hex digits; `forestall init`",
    ),
    "a mandate that is no TOML": (
        swap(MANDATE, "purpose =", "purpose"),
        "{h}/policy/mandates/default.toml:2:9: This is not TOML: ",
    ),
    "an unknown key in a mandate": (
        swap(MANDATE, "lifetime_minutes", "lifetime_hours"),
        "{h}/policy/mandates/default.toml:5: unknown key `lifetime_hours`; did you mean `lifetime_minutes`?",
    ),
    "an unknown effect in a mandate": (
        swap(MANDATE, '"read"', '"raed"'),
        "{h}/policy/mandates/default.toml:4: unknown effect `raed`; did you mean `read`?",
    ),
    "a mandate's name that is none": (
        put("policy/mandates/Night Shift.toml", ""),
        "{h}/policy/mandates/Night Shift.toml: a mandate's file is named in small letters",
    ),
    "a home that others can write to": (
        lambda scratch: scratch.home.root.chmod(0o777),
        "Others can write to {h}; run `chmod 700 {h}`.",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_wrong_stops_it_with_a_sentence(scratch: Scratch, case: str) -> None:
    breaks, says = FILES[case]
    breaks(scratch)
    says = says.replace("{h}", str(scratch.home.root))
    said = scratch.serve()
    assert (said.code, said.out) == (78, "")
    assert said.sentence().startswith(says)
    client = scratch.gateway(call(1))
    assert (client.code, client.out) == (78, "")
    assert client.sentence().removeprefix("The decision point could not start: ") == said.sentence()
    assert scratch.reached() == []
    assert not (scratch.home.ledger / "permits.log").exists()


@pytest.mark.parametrize("case", sorted(FILES.keys() - {"a home that others can write to"}))
def test_the_check_says_the_same(scratch: Scratch, case: str) -> None:
    breaks, says = FILES[case]
    breaks(scratch)
    says = says.replace("{h}", str(scratch.home.root))
    shown = scratch.run("check")
    assert (shown.code, shown.err) == (1, "")
    assert [line for line in shown.out.splitlines() if line.startswith(says)]
    problems = json.loads(scratch.run("check", "--json").out)["problems"]
    assert [problem["severity"] for problem in problems].count("error") == 1


KEYS: dict[str, Broken] = {
    "no signing key": (remove("keys/log.key"), "{h}/keys/log.key is missing; restore it from a backup."),
    "no verifier key": (remove("keys/log.pub"), "{h}/keys/log.pub is missing; restore it from a backup."),
    "no payload key": (remove("keys/payload.key"), "{h}/keys/payload.key is missing; restore it from a backup."),
    "no keys": (
        remove("keys"),
        "{h}/keys has no keys, but {h}/ledger was signed with some; restore them from a backup.",
    ),
    "a signing key that is none": (
        put("keys/log.key", "s3cr3t\n"),
        "{h}/keys/log.key is not 32 bytes in base64; restore it from a backup.",
    ),
    "a payload key that is none": (
        put("keys/payload.key", "s3cr3t\n"),
        "{h}/keys/payload.key is not 32 bytes in base64; restore it from a backup.",
    ),
    "a verifier key that is none": (
        put("keys/log.pub", "s3cr3t\n"),
        "{h}/keys/log.pub:1: This is not an Ed25519 verifier key; ",
    ),
    "an empty verifier key": (put("keys/log.pub", ""), "{h}/keys/log.pub is empty; restore it from a backup."),
    "a signing key of another ledger": (
        put("keys/log.key", "A" * 43 + "=\n"),
        "{h}/keys/log.pub is not the public half of {h}/keys/log.key; restore both from one backup.",
    ),
    "a signing key that others can read": (
        lambda scratch: (scratch.home.keys / "log.key").chmod(0o644),
        "{h}/keys/log.key can be read by others; run `chmod 600 {h}/keys/log.key`, and make new keys if they were.",
    ),
    "a signing key that is a directory": (
        directory("keys/log.key"),
        "{h}/keys/log.key is not a file; move it, and restore the file from a backup.",
    ),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_that_is_wrong_stops_it_with_a_sentence(used: Scratch, case: str) -> None:
    before = (used.home.ledger / "permits.log").read_bytes()
    breaks, says = KEYS[case]
    breaks(used)
    says = says.replace("{h}", str(used.home.root))
    said = used.serve()
    assert (said.code, said.out) == (78, "")
    assert said.sentence().startswith(says)
    assert "s3cr3t" not in said.err
    client = used.gateway(call(1))
    assert (client.code, client.out) == (78, "")
    assert client.sentence() == f"The decision point could not start: {said.sentence()}"
    assert used.reached() == []
    assert (used.home.ledger / "permits.log").read_bytes() == before


def test_a_key_that_was_never_made_is_no_fault(scratch: Scratch) -> None:
    assert scratch.gateway(call(1)).code == 0
    assert len(scratch.reached()) == 1
    assert scratch.run("check").code == 0


# -- what is missing altogether: it starts, says that it denies everything, and does


@pytest.mark.parametrize(
    ("breaks", "says", "reason"),
    [
        (remove("policy"), "{h}/policy holds no policy, so every call is denied; run `forestall init`, ", "no_policy"),
        (put(POLICY, ""), "{h}/policy holds no policy, so every call is denied; run `forestall init`, ", "no_policy"),
        (remove("catalogue"), "{h}/catalogue holds no reviewed tool, so every call is denied; run ", "unknown_tool"),
    ],
    ids=["no policy directory", "an empty policy", "no catalogue"],
)
def test_what_is_missing_denies_everything_and_says_so(
    scratch: Scratch, breaks: Callable[[Scratch], object], says: str, reason: str
) -> None:
    breaks(scratch)
    client = scratch.gateway(call(1))
    assert client.code == 0
    assert answers(client)[1]["result"]["structuredContent"]["reason"] == reason
    assert scratch.reached() == []
    scratch.end()
    said = scratch.serve()
    assert said.code == 0
    assert said.sentence().startswith(says.replace("{h}", str(scratch.home.root)))
    shown = scratch.run("check")
    assert "every call is denied; run `forestall init`" in shown.out


def test_a_mandate_that_is_not_there_is_refused_by_name(scratch: Scratch) -> None:
    client = scratch.gateway(call(1), options=["--mandate", "night-shift"])
    assert client.code == 78
    file = scratch.home.mandates / "night-shift.toml"
    assert client.sentence() == f"The decision point refused: There is no mandate `night-shift`; write {file}."
    assert scratch.reached() == []


def test_mandates_without_the_default_one_refuse_and_the_check_says_it(scratch: Scratch) -> None:
    remove(MANDATE)(scratch)
    client = scratch.gateway(call(1))
    assert client.code == 78
    assert "There is no mandate `default`; write " in client.sentence()
    assert scratch.reached() == []
    assert scratch.run("check").code == 1


# -- a home that is none


def test_a_file_in_place_of_the_home_is_said(scratch: Scratch) -> None:
    remove("")(scratch)
    scratch.home.root.write_text("")
    said = scratch.run("serve")
    assert said.code == 78
    assert said.sentence() == (
        f"{scratch.home.root} cannot be made: File exists; move what is in its place, or choose another home."
    )
    assert scratch.gateway(call(1)).code in (69, 78)
    for words in (("log",), ("explain", "x"), ("prove", "x"), ("test",)):
        said = scratch.run(*words)
        assert said.code == 78
        assert str(scratch.home.root) in said.sentence()
    assert scratch.run("check").code == 1
    assert scratch.reached() == []


def test_a_home_that_is_not_there_is_said_by_every_command_that_reads(scratch: Scratch) -> None:
    remove("")(scratch)
    for words in (("log",), ("explain", "x"), ("prove", "x"), ("test",)):
        said = scratch.run(*words)
        assert (said.code, said.out) == (78, "")
        assert str(scratch.home.root) in said.sentence()
    assert scratch.run("check").code == 1
    for words in (("serve", "--stop"), ("serve", "--reload")):
        said = scratch.run(*words)
        assert said.code == 69
        assert said.sentence().endswith("`forestall serve` starts one.")
    assert not scratch.home.root.exists()


# -- policy tests

CASE = '[[case]]\nname = "a"\n{more}\nexpect = "permit"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[case]]\nname = = 3\n", ":2:8: This is not TOML: Invalid value."),
        (CASE.format(more='toool = "plain/echo"'), ":1: This test cannot be run: `toool` means nothing here. "),
        (CASE.format(more=""), ":1: This test cannot be run: `tool` is missing."),
        ("\xff", ": The policy tests are not UTF-8; save them as UTF-8."),
    ],
)
def test_policy_tests_that_are_wrong_are_said(scratch: Scratch, text: str, says: str) -> None:
    file = scratch.home.policy / "tests" / "a.toml"
    put("policy/tests/a.toml", text.encode("latin-1"))(scratch)
    said = scratch.run("test")
    assert (said.code, said.out) == (78, "")
    assert said.sentence().startswith(f"{file}{says}")
    shown = scratch.run("check")
    assert shown.code == 1
    assert f"{file}{says}" in shown.out


def test_a_policy_test_of_an_unknown_tool_fails_with_the_nearest_name(scratch: Scratch) -> None:
    put("policy/tests/a.toml", CASE.format(more='tool = "plain/ehco"'))(scratch)
    said = scratch.run("test")
    assert (said.code, said.err) == (1, "")
    assert "there is no tool `plain/ehco` in the catalogue. Did you mean `plain/echo`?\n" in said.out


def test_tests_that_are_not_there_are_said(scratch: Scratch) -> None:
    said = scratch.run("test", "nowhere.toml")
    assert said.code == 78
    assert said.sentence().startswith("nowhere.toml: There is no such file or directory of policy tests; ")
