"""Where weight files lie on this machine, and how they get there: looked up, verified, downloaded, imported.

Lookup order: files given by the user, $SYNCDIFF_WEIGHTS, the cache. The cache of a file that another library
owns is where that library looks; the others lie in this project's own folder. Nothing is downloaded unasked.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from syncdiff_data.records import UserError
from syncdiff_data.weights.registry import WEIGHTS, WeightFile

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 30.0


def find_weights(name: str, given: Mapping[str, Path] = {}) -> Path:
    """The file to load for a registered name; its hash is checked where one is known.

    given: what `--weights NAME=FILE` named, by name (see given_weights).
    Raises UserError where the file is missing, with the command that gets it, or is not the published one.
    """
    weight = lookup(name)
    path = locate(weight, given)
    if path is None:
        raise UserError(
            f"The weights {name} ({weight.file_name}), needed by {weight.needed_by}, are not here: "
            f"{how_to_get(weight)}"
        )
    check_hash(weight, path)
    return path


def lookup(name: str) -> WeightFile:
    """The registry's entry. Raises UserError for an unknown name."""
    if name not in WEIGHTS:
        raise UserError(f"There are no weights named {name!r}: choose one of {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]


def given_weights(pairs: Sequence[str]) -> dict[str, Path]:
    """{'s3fd': Path('x.pth')} from ['s3fd=x.pth'].

    Raises UserError for another form, an unknown name and a missing file.
    """
    given = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals or not file:
            raise UserError(f"--weights {pair!r} is not of the form NAME=FILE.")
        given[lookup(name).name] = Path(file)
        if not Path(file).is_file():
            raise UserError(f"--weights {pair}: there is no file {file}.")
    return given


def locate(weight: WeightFile, given: Mapping[str, Path] = {}) -> Path | None:
    """The first place that holds the file, unverified; an imported form goes before the published one."""
    if weight.name in given:
        if not given[weight.name].is_file():
            raise UserError(
                f"The weights {weight.name} were given as {given[weight.name]}, which is not a file."
            )
        return given[weight.name]
    folders = [*_user_folder(), cache_folder(weight)]
    candidates = [
        folder / name for folder in folders for name in (_imported_name(weight), weight.file_name) if name
    ]
    return next((path for path in candidates if path.is_file()), None)


def _imported_name(weight: WeightFile) -> str | None:
    return f"{weight.name}/{weight.imported_file}" if weight.importer else None


def _user_folder() -> list[Path]:
    folder = os.environ.get("SYNCDIFF_WEIGHTS")
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UserError(f"$SYNCDIFF_WEIGHTS names {folder}, which is not a folder: correct or unset it.")
    return [Path(folder)]


def cache_folder(weight: WeightFile) -> Path:
    """Where downloads and imports of this file go.

    torch.hub's rule ($TORCH_HOME, else the user's cache) is repeated because importing torch takes seconds.
    """
    import pooch

    if weight.in_torch_hub:
        user_cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
        return Path(os.environ.get("TORCH_HOME", user_cache / "torch")).expanduser() / "hub" / "checkpoints"
    return pooch.os_cache("syncdiff") / "weights"


def how_to_get(weight: WeightFile) -> str:
    """One sentence with the command."""
    command = "python -m syncdiff_data weights"
    if weight.url is None:
        copies = "; a copy from elsewhere will do, as its SHA-256 is checked" if weight.sha256 else ""
        return f"get {weight.file_name} from {weight.page} and run `{command} import {weight.name} FILE`{copies}."
    return (
        f"run `{command} fetch {weight.name}`, or `{command} import {weight.name} FILE` with a copy "
        f"(licence: {weight.licence})."
    )


def file_sha256(path: Path) -> str:
    """Hex digest; computed once per process for a path of one size and modification time."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(weight: WeightFile, path: Path, origin: str | None = None) -> None:
    """Raises UserError where the published file's hash is known and this file has another.

    origin: what to call the file, where its path would tell the user nothing.
    """
    imported = weight.importer is not None and path.name == weight.imported_file
    if weight.sha256 is None or imported:
        return
    found = file_sha256(path)
    if found != weight.sha256:
        raise UserError(
            f"{origin or path} is not the published {weight.file_name} (expected sha256 {weight.sha256}, "
            f"found {found}): do not use it; {how_to_get(weight)}"
        )


def download(weight: WeightFile, progress: bool = True) -> Path:
    """Downloads into the cache, whole and verified or not at all; gives the file to load.

    Raises UserError where there is no direct download, the network is off or fails, or the hash is wrong.
    """
    import pooch
    import requests

    if weight.url is None:
        raise UserError(f"The weights {weight.name} have no direct download: {how_to_get(weight)}")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError(
            f"HF_HUB_OFFLINE is set, so {weight.url} is not downloaded: unset it or import a copy."
        )
    fetch = pooch.HTTPDownloader(
        progressbar=progress, chunk_size=1 << 20, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    )
    with _staging(weight) as staging:
        file = staging / weight.file_name
        try:
            fetch(weight.url, str(file), None)
        except requests.RequestException as error:
            raise UserError(
                f"{weight.url} could not be downloaded ({_cause(error)}): try again, or get the file from "
                f"{weight.page} and run `python -m syncdiff_data weights import {weight.name} FILE`."
            ) from error
        check_hash(weight, file, origin=f"What {weight.url} sends")
        return _install(weight, file, staging)


def _cause(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    return "the server cannot be reached"


def import_file(weight: WeightFile, file: Path) -> Path:
    """Copies a user's file into the cache, verified and, where the registry says so, converted."""
    if not file.is_file():
        raise UserError(f"There is no file {file} to import as {weight.name}.")
    check_hash(weight, file)
    with _staging(weight) as staging:
        if weight.importer is None:
            file = Path(shutil.copyfile(file, staging / weight.file_name))
        return _install(weight, file, staging)


@contextmanager
def _staging(weight: WeightFile) -> Iterator[Path]:
    """A temporary folder inside the cache, gone afterwards; the disk's errors become UserErrors."""
    folder = cache_folder(weight)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".syncdiff-", suffix=".tmp", dir=folder) as staging:
            yield Path(staging)
    except OSError as error:
        raise UserError(f"The weights {weight.name} could not be put into {folder}: {error}.") from error


def _install(weight: WeightFile, file: Path, staging: Path) -> Path:
    """Moves a staged file, or what its importer makes of a file, from the staging folder to the cache."""
    if weight.importer is None:
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        return file.replace(cache_folder(weight) / weight.file_name)
    made, target = staging / weight.name, cache_folder(weight) / weight.name
    pkgutil.resolve_name(weight.importer)(file, made)
    if target.exists():
        shutil.rmtree(target)
    return made.replace(target) / weight.imported_file
