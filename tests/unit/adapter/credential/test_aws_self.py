"""Forestall's own credentials: from where the settings say, and with nothing of them in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.aws_calls import Keys
from forestall.adapter.credential.aws_self import FromEnvironment, FromProfile, require_keys
from forestall.core.ask import CannotDo

ID, SECRET = "AKIAEXAMPLEEXAMPLE01", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def write(folder: Path, text: str) -> FromProfile:
    file = folder / "credentials"
    file.touch(0o600)
    file.write_text(text)
    return FromProfile(file, "forestall")


def test_a_profile_is_read_at_each_use(tmp_path: Path) -> None:
    text = f"[default]\nregion=x\n[forestall]\naws_access_key_id={ID}\naws_secret_access_key = {SECRET}\n"
    own = write(tmp_path, text)
    assert own.keys(0.0) == Keys(ID, SECRET)
    write(tmp_path, f"{text}aws_session_token = a-token%with\n")
    assert own.keys(0.0).token == "a-token%with"
    assert SECRET not in repr(own.keys(0.0))


def test_the_environment_has_them_by_their_usual_names() -> None:
    given = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "OTHER": "x"}
    assert FromEnvironment(given).keys(0.0) == Keys(ID, SECRET)
    with pytest.raises(CannotDo, match="no credentials in the environment"):
        FromEnvironment({}).keys(0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[default]\n",
        f"aws_access_key_id={ID}\n",
        "[forestall]\n",
        f"[forestall]\naws_access_key_id={ID}\n",
        f"[forestall]\naws_access_key_id={ID}\naws_secret_access_key={SECRET}\naws_session_token=a b\n",
        f"[forestall]\naws_access_key_id={ID}\naws_access_key_id={ID}\naws_secret_access_key={SECRET}\n",
        "[forestall]\ncredential_process = touch ran\n",
        f"[forestall]\naws_access_key_id={ID}\naws_secret_access_key={SECRET} ; x\n",
    ],
)
def test_a_file_without_them_is_an_error_that_shows_nothing(text: str, tmp_path: Path) -> None:
    with pytest.raises(CannotDo) as caught:
        write(tmp_path, text).keys(0.0)
    assert ID not in caught.value.detail
    assert SECRET not in caught.value.detail
    assert not (tmp_path / "ran").exists()


def test_a_file_that_others_can_read_is_none(tmp_path: Path) -> None:
    own = write(tmp_path, "[forestall]\n")
    own.file.chmod(0o604)
    with pytest.raises(CannotDo, match="chmod 600"):
        own.keys(0.0)


@pytest.mark.parametrize("members", [{}, {"aws_access_key_id": 7, "aws_secret_access_key": SECRET}])
def test_what_is_no_key_is_none(members: dict[str, object]) -> None:
    with pytest.raises(CannotDo, match="no credentials in a place"):
        require_keys(members, "a place")
