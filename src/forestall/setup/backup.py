"""Client configurations as they were before `init --apply`, so that `init --undo` restores them byte for byte."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.setup.client import Configuration
from forestall.setup.files import make_directory, replace


@dataclass(frozen=True, slots=True)
class Record:
    """One rewriting of one configuration."""

    path: str
    mode: int
    original: str
    """Digest of the file before."""
    applied: str
    """Digest of the file as it was written."""


def apply(home: Home, configuration: Configuration, names: Sequence[str], start: Sequence[str]) -> Path:
    """Put these servers behind the gateway that `start` starts. Returns the backup.

    Raises:
        SetupError: the file was changed meanwhile, or something cannot be written; then it is as it was.
    """
    path = configuration.path
    original, applied = configuration.text.encode(), configuration.guard(names, start).encode()
    mode = stat.S_IMODE(path.stat().st_mode)
    record = Record(str(path), mode, _digest(original), _digest(applied))
    make_directory(home.backups)
    stem = home.backups / f"{_key(path)}.{len(list(_records(home, path))) + 1}"
    backup = stem.with_name(stem.name + ".original")
    replace(backup, original)
    replace(stem.with_name(stem.name + ".json"), json.dumps(asdict(record), indent=2).encode() + b"\n")
    if path.read_bytes() != original:
        raise SetupError(f"{path} was changed while it was being read; run `forestall init --apply` again.")
    replace(path, applied, mode)
    return backup


def undo(home: Home, path: Path, *, force: bool = False) -> Path:
    """Restore the configuration as it was before it was last rewritten, and forget the backup. Returns its path.

    Raises:
        SetupError: there is no backup, or the file was changed since and `force` is not set.
    """
    path = path.resolve()
    found = list(_records(home, path))
    if not found:
        raise SetupError(f"{path}: there is no backup of it in {home.backups}, so there is nothing to undo.")
    file, record = found[-1]
    backup = file.with_suffix(".original")
    try:
        original = backup.read_bytes()
        current = _digest(path.read_bytes()) if path.exists() else record.applied
    except OSError as error:
        raise SetupError(f"{error.filename}: cannot be read: {error.strerror}; nothing was restored.") from None
    if _digest(original) != record.original:
        raise SetupError(f"{backup}: is not what was kept there; nothing was restored. Compare it with {path} by hand.")
    if current not in (record.applied, record.original) and not force:
        raise SetupError(
            f"{path} was changed after `init --apply`, and restoring it would lose that."
            f" Take what you need from {backup}, or lose the changes with --undo --force."
        )
    if current != record.original:
        replace(path, original, record.mode)
    backup.unlink()
    file.unlink()
    return path


def configurations(home: Home) -> tuple[Path, ...]:
    """The configurations that were rewritten and not restored."""
    return tuple(dict.fromkeys(Path(_read(file).path) for file in sorted(home.backups.glob("*.json"))))


def gateway_command(home: Home, argv0: str) -> tuple[str, ...]:
    """How a client starts a gateway of this installation, up to the server's name."""
    named = [argv0 if Path(argv0).name == "forestall" else None, shutil.which("forestall")]
    beside = Path(sys.executable).with_name("forestall")
    found = next((Path(place).resolve() for place in (*named, beside) if place and Path(place).is_file()), None)
    # -P: a module of this name in the client's working directory must not be taken for it
    start = (str(found),) if found else (sys.executable, "-P", "-m", "forestall.cli")
    usual = Path("~/.forestall").expanduser().absolute()
    return (*start, "gateway", *(() if home.root == usual else ("--home", str(home.root))))


def _records(home: Home, path: Path) -> Iterator[tuple[Path, Record]]:
    """The records of one configuration, oldest first."""
    files = home.backups.glob(f"{_key(path)}.*.json")
    for file in sorted(files, key=lambda file: int(file.name.split(".")[1])):
        yield file, _read(file)


def _read(file: Path) -> Record:
    try:
        return Record(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise SetupError(f"{file}: is not a record of `init --apply`; move it away. The backup is beside it.") from None


def _key(path: Path) -> str:
    return hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:16]


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
