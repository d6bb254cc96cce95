"""Weight files: order of lookup, verification, and downloads from a server on this machine."""

import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tyro

from syncdiff_data.records import UserError
from syncdiff_data.weights import WEIGHTS, WeightFile, file_sha256, find_weights, given_weights
from syncdiff_data.weights.commands import COMMANDS, fetch_weights, list_weights, verify_weights
from syncdiff_data.weights.store import cache_folder, download, import_file, locate

CONTENT = b"weights" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def convert(src: Path, dst: Path) -> None:
    """Stands in for AV-HuBERT's converter."""
    dst.mkdir()
    (dst / "model.bin").write_bytes(src.read_bytes().upper())


def break_off(src: Path, dst: Path) -> None:
    dst.mkdir()
    (dst / "model.bin").write_bytes(b"half")
    raise UserError("not a checkpoint")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights: every cache lies under tmp_path."""
    for name in ("SYNCDIFF_WEIGHTS", "TORCH_HOME", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def weight(monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """A registered file of known hash, published nowhere yet."""
    entry = WeightFile(
        name="test",
        file_name="test.pth",
        url=None,
        page="https://example.org/test",
        sha256=SHA256,
        licence="none to speak of",
        needed_by="this test",
    )
    monkeypatch.setitem(WEIGHTS, "test", entry)
    return entry


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.pth").write_bytes(content)
    return folder / "test.pth"


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.suffix == ".tmp"]


def test_hashes_begin_with_the_digits_in_pytorch_style_names() -> None:
    digits = {w.name: re.search(r"-([0-9a-f]{8,10})\.pth", w.file_name) for w in WEIGHTS.values()}
    named = {name: match[1] for name, match in digits.items() if match}
    assert set(named) == {"s3fd", "fan2d", "inception-fid"}
    for name, prefix in named.items():
        assert (WEIGHTS[name].sha256 or "").startswith(prefix)


def test_registry_is_consistent() -> None:
    assert len({weight.file_name for weight in WEIGHTS.values()}) == len(WEIGHTS)
    for name, weight in WEIGHTS.items():
        assert name == weight.name
        assert weight.sha256 is None or re.fullmatch("[0-9a-f]{64}", weight.sha256)
        assert weight.licence
        assert weight.needed_by


def test_files_of_other_libraries_lie_where_those_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for torch_home in (None, str(home / "elsewhere")):
        if torch_home:
            monkeypatch.setenv("TORCH_HOME", torch_home)
        for name in ("s3fd", "fan2d", "inception-fid"):
            assert cache_folder(WEIGHTS[name]) == Path(torch.hub.get_dir()) / "checkpoints"


def test_urls_are_those_of_the_owning_libraries() -> None:
    from face_alignment.api import models_urls as landmark_urls
    from face_alignment.detection.sfd.sfd_detector import models_urls as detector_urls
    from pytorch_fid.inception import FID_WEIGHTS_URL

    assert WEIGHTS["s3fd"].url == detector_urls["s3fd"]
    assert "/" + WEIGHTS["fan2d"].file_name in str(landmark_urls)
    assert WEIGHTS["inception-fid"].url == FID_WEIGHTS_URL


def test_lookup_prefers_given_then_users_folder_then_cache(
    home: Path, weight: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put(cache_folder(weight))
    assert find_weights("test") == cached
    users = put(home / "mine")
    monkeypatch.setenv("SYNCDIFF_WEIGHTS", str(home / "mine"))
    assert find_weights("test") == users
    given = put(home / "given")
    assert find_weights("test", given_weights([f"test={given}"])) == given
    users.unlink()
    assert find_weights("test") == cached


def test_missing_file_names_the_command(weight: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"get test\.pth from https://example\.org/test and run .* import test"
    ):
        find_weights("test")
    with pytest.raises(UserError, match=r"`python -m syncdiff_data weights fetch s3fd`"):
        find_weights("s3fd")


def test_wrong_hash_names_file_expected_and_found(weight: WeightFile) -> None:
    path = put(cache_folder(weight), b"broken")
    found = hashlib.sha256(b"broken").hexdigest()
    with pytest.raises(UserError) as error:
        find_weights("test")
    assert all(part in str(error.value) for part in (str(path), SHA256, found))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["test"], "not of the form"),
        (["test="], "not of the form"),
        (["nothing=file"], "choose one of"),
        (["test=absent.pth"], "there is no file absent.pth"),
    ],
)
def test_given_weights_refuses(weight: WeightFile, pairs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        given_weights(pairs)


def test_given_file_may_vanish_and_users_folder_may_be_absent(
    home: Path, weight: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="is not a file"):
        find_weights("test", {"test": home / "gone.pth"})
    monkeypatch.setenv("SYNCDIFF_WEIGHTS", str(home / "absent"))
    with pytest.raises(UserError, match="absent, which is not a folder"):
        find_weights("test")


def test_hash_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content) + content[0]))
        assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_download_lands_whole_and_verified(weight: WeightFile, server: str) -> None:
    path = download(replace(weight, url=f"{server}/good"), progress=False)
    assert path == cache_folder(weight) / "test.pth"
    assert path.read_bytes() == CONTENT
    assert find_weights("test") == path
    assert below(cache_folder(weight)) == [path]


@pytest.mark.parametrize(
    ("page", "sha256", "message"),
    [
        ("good", "0" * 64, f"What http.* sends is not the published .*{SHA256}"),
        ("missing", SHA256, "the server answered 404"),
        ("cut", SHA256, "the connection was cut"),
        ("cut", None, "the connection was cut"),
    ],
)
def test_failed_download_leaves_what_was_there(
    weight: WeightFile, server: str, page: str, sha256: str | None, message: str
) -> None:
    before = put(cache_folder(weight), b"older")
    with pytest.raises(UserError, match=message):
        download(replace(weight, url=f"{server}/{page}", sha256=sha256), progress=False)
    assert below(cache_folder(weight)) == [before]
    assert before.read_bytes() == b"older"


def test_no_network_is_one_sentence(weight: WeightFile) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        with pytest.raises(UserError, match=r"the server cannot be reached.* import test FILE"):
            download(replace(weight, url=url), progress=False)
    assert below(cache_folder(weight)) == []


def test_silent_server_times_out(weight: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncdiff_data.weights.store.READ_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(UserError, match="did not answer in time"):
            download(replace(weight, url=url), progress=False)


def test_offline_refuses_without_trying(weight: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        download(replace(weight, url="http://127.0.0.1:1/file"), progress=False)


def test_fetch_replaces_a_broken_cache_but_not_a_users_file(
    home: Path,
    weight: WeightFile,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(WEIGHTS, "test", replace(weight, url=f"{server}/good"))
    cached = put(cache_folder(weight), b"broken")
    fetch_weights("test")
    assert cached.read_bytes() == CONTENT
    assert "none to speak of" in capsys.readouterr().out
    fetch_weights("test")
    assert capsys.readouterr().out == f"{cached}\n"
    users = put(home / "mine", b"broken")
    monkeypatch.setenv("SYNCDIFF_WEIGHTS", str(home / "mine"))
    with pytest.raises(UserError, match="is not the published"):
        fetch_weights("test")
    assert users.read_bytes() == b"broken"


def test_import_copies_and_verifies(home: Path, weight: WeightFile) -> None:
    users = put(home / "mine")
    path = import_file(weight, users)
    assert find_weights("test") == path == cache_folder(weight) / "test.pth"
    assert users.exists()
    with pytest.raises(UserError, match="is not the published"):
        import_file(weight, put(home / "mine", b"broken"))
    with pytest.raises(UserError, match="There is no file"):
        import_file(weight, home / "absent")
    assert below(cache_folder(weight)) == [path]
    assert path.read_bytes() == CONTENT


def test_importer_makes_what_is_loaded(
    home: Path, weight: WeightFile, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(
        weight, url=f"{server}/good", importer=f"{__name__}:convert", imported_file="model.bin", sha256=None
    )
    monkeypatch.setitem(WEIGHTS, "test", entry)
    for path in (import_file(entry, put(home / "mine")), download(entry, progress=False)):
        assert path == find_weights("test") == cache_folder(entry) / "test" / "model.bin"
        assert path.read_bytes() == CONTENT.upper()
    broken = replace(entry, importer=f"{__name__}:break_off")
    with pytest.raises(UserError, match="not a checkpoint"):
        import_file(broken, home / "mine" / "test.pth")
    assert below(cache_folder(entry)) == [path]


def test_avhubert_is_imported_by_its_converter(shared: Path, home: Path) -> None:
    checkpoint = next((shared / "golden").rglob("tiny_plain.pt"))
    path = import_file(WEIGHTS["avhubert-base"], checkpoint)
    assert find_weights("avhubert-base") == path
    assert path.suffix == ".safetensors"


def test_a_cache_that_cannot_be_written_is_one_sentence(home: Path, weight: WeightFile) -> None:
    (home / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="could not be put into"):
        import_file(weight, put(home / "mine"))


def test_list_and_verify_tell_what_is_here(
    weight: WeightFile, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    put(cache_folder(weight))
    list_weights()
    rows = {row.split()[1]: row for row in capsys.readouterr().out.splitlines() if row.count("│") > 4}
    assert "700.0 kB" in rows["test"]
    assert "missing" in rows["syncnet"]
    verify_weights()
    assert "as published" in capsys.readouterr().out
    put(cache_folder(weight), b"broken")
    with pytest.raises(UserError, match="Not the published files: test"):
        verify_weights()


def test_commands_mount_under_tyro(weight: WeightFile, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache_folder(weight))
    tyro.extras.subcommand_cli_from_dict(COMMANDS, args=["fetch", "test"])
    assert capsys.readouterr().out == f"{locate(weight)}\n"
