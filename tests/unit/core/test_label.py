"""What is known of data, and where it may go."""

from __future__ import annotations

import pytest

from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label

SECRETS = Label(Integrity.TRUSTED, Confidentiality.SECRET)
WEB = Label(Integrity.UNTRUSTED, Confidentiality.PUBLIC)


def test_data_made_from_both_is_as_bad_as_either() -> None:
    assert SECRETS.join(WEB) == WORST
    assert CLEAN.join(WEB) == WEB
    assert CLEAN.join(SECRETS) == SECRETS


@pytest.mark.parametrize(
    ("data", "sink", "may"),
    [
        (SECRETS, CLEAN, False),  # a secret does not reach the public
        (WEB, CLEAN, False),  # the web does not become trusted
        (CLEAN, WEB, True),
        (CLEAN, SECRETS, True),
        (WEB, SECRETS, False),
        (SECRETS, WEB, False),
        (WORST, WORST, True),
    ],
)
def test_flow_is_towards_less_trust_and_more_secrecy_alone(data: Label, sink: Label, *, may: bool) -> None:
    assert data.may_flow(sink) is may


def test_the_words_are_the_ones_that_policies_and_ledgers_use() -> None:
    assert [level.value for level in Confidentiality] == ["public", "internal", "confidential", "secret"]
    assert [level.value for level in Integrity] == ["trusted", "untrusted"]
