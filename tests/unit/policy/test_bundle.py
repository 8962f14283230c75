from __future__ import annotations

from pathlib import Path

import pytest

from forestall.core.errors import PolicyInvalid
from forestall.policy import bundle
from forestall.policy.bundle import from_texts, read
from forestall.policy.text import cut, tokens

BUILTIN = ["forestall:open-task", "forestall:own-files"]
PERMIT = "permit (principal, action, resource);"


def own(text: str, file: str = "a.cedar") -> list[bundle.Policy]:
    return [policy for policy in from_texts({file: text}).policies if not policy.id.startswith("forestall:")]


def test_a_policy_is_named_after_its_file_and_its_place_in_it() -> None:
    assert [policy.id for policy in own(PERMIT * 2, "dir/mail.cedar")] == ["mail:1", "mail:2"]


def test_a_policy_is_named_by_its_id() -> None:
    assert [policy.id for policy in own(f'@id("send") {PERMIT} {PERMIT}')] == ["send", "a:2"]


def test_a_policy_knows_its_line() -> None:
    text = f"// why\n\n{PERMIT}\n  {PERMIT} {PERMIT}\n"
    assert [policy.at() for policy in own(text)] == [("a.cedar", 3, 1), ("a.cedar", 4, 3), ("a.cedar", 4, 41)]


def test_neither_strings_nor_comments_end_a_policy() -> None:
    text = 'permit (principal, action, resource) // ; here\nwhen { context.task.purpose == "a;\\"b;" };'
    (policy,) = own(text)
    assert policy.text == text


def test_the_builtin_policies_are_in_every_bundle() -> None:
    assert from_texts({}).find("forestall:own-files") is not None


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("permit (principal, action resource);", "a.cedar:1:27: ", "unexpected token `resource`"),
        ("\n\npermit (principal,\n  action,\n  resource)\n  when { context.x === 3 };", "a.cedar:6:22: ", "`=`"),
        (f"{PERMIT} permit (principal, action, resource)", "a.cedar:1:74: ", "unexpected end of input"),
        ("permit (principl, action, resource);", "a.cedar:1:9: ", "principl"),
        ("permit (principal, action, resource) when { foo(1) };", "a.cedar:1:45: ", "`foo`"),
        ("permit (principal, action, resource) when { context.a };;", "a.cedar:1:57: ", "unexpected token `;`"),
        ('permit (principal, action, resource) when { "open };', "a.cedar:1:45: ", "invalid token"),
        ("permit (principal == ?principal, action, resource);", "a.cedar:1:22: ", "template"),
        (f'@id("a") {PERMIT}\n@id("a") {PERMIT}', "a.cedar:2:2: ", "`a` is taken by the policy at a.cedar:1"),
        (f'{PERMIT}\n@id("a:1") {PERMIT}', "a.cedar:2:2: ", "`a:1` is taken"),
        (f'@id("forestall:x") {PERMIT}', "a.cedar:1:2: ", "Forestall's own"),
        (f'@id("") {PERMIT}', "a.cedar:1:2: ", "empty"),
        (f'@id("a\\nb") {PERMIT}', "a.cedar:1:2: ", "printed"),
        (f'@id("a") @id("b") {PERMIT}', "a.cedar:1:2: ", "duplicate annotation"),
        (f"{PERMIT} nonsense", "a.cedar:1:39: ", "This does not parse"),
    ],
)
def test_an_error_says_where_it_is(text: str, place: str, words: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        from_texts({"a.cedar": text})
    assert str(caught.value).startswith(place)
    assert words in str(caught.value)


def test_every_error_of_every_file_is_listed() -> None:
    with pytest.raises(PolicyInvalid) as caught:
        from_texts({"a.cedar": f"permit;\n{PERMIT}\nforbid;", "b.cedar": "permit (;"})
    places = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["a.cedar:1:7", "a.cedar:3:7", "b.cedar:1:9"]


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text(PERMIT)
    (tmp_path / "a.cedar").write_text(PERMIT)
    (tmp_path / "notes.txt").write_text("not a policy")
    assert [policy.id for policy in read(tmp_path).policies] == [*BUILTIN, "a:1", "b:1"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match=r"no policy directory.*forestall init"):
        read(tmp_path / "policy")


def test_an_empty_directory_holds_only_what_is_built_in(tmp_path: Path) -> None:
    assert [policy.id for policy in read(tmp_path).policies] == BUILTIN


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe", "is not UTF-8; save it as UTF-8"),
        (b"/" * (bundle.MAX_FILE + 1), "cannot be read: it is larger than"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.cedar").write_bytes(data)
    with pytest.raises(PolicyInvalid, match=rf"a\.cedar: The file {said}"):
        read(tmp_path)


def test_a_directory_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").mkdir()
    with pytest.raises(PolicyInvalid, match=r"a\.cedar: The file cannot be read: Is a directory; move"):
        read(tmp_path)


def test_nothing_of_a_file_is_dropped_when_it_is_cut() -> None:
    text = f'{PERMIT} // one\n@id("x;") {PERMIT} trailing'
    words = [token.text for piece in cut(text) for token in tokens(piece.text)]
    assert words == [token.text for token in tokens(text)]
