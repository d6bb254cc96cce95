"""Tables, shards and checkpoints for fuzz.py: good ones, and all that reads such files of a user's."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import diffusers
import numpy as np
from damages import Damage, damaged_binary
from damages_text import damaged_text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from loader_data import make_dataset, numbered_clip
from loader_data import read as read_batches
from made_clips import spoken_clip
from report_samples import sample
from rich.console import Console
from tiny_avhubert import write_tiny_checkpoint
from tiny_models import save_tiny_model

from syncdiff_data.avhubert.weights import read_weights
from syncdiff_data.cli import printable
from syncdiff_data.faces.mean_face import load_mean_face
from syncdiff_data.images import decode_gray, decode_jpeg, decode_jpeg_into, encode_gray, encode_jpeg
from syncdiff_data.loader.index import DamagedShard
from syncdiff_data.media import decode_flac, encode_flac
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards.check import ShardChecker
from syncdiff_data.shards.dataset import load_dataset
from syncdiff_data.shards.inspect import contact_sheet, summarise
from syncdiff_data.shards.read import read_clips, read_features
from syncdiff_data.shards.schema import REJECTS, Footer
from syncdiff_data.shards.store import Store
from syncdiff_data.shards.write import write_shard
from syncdiff_data.sources import list_sources
from syncdiff_data.sources.layouts import find_transcript
from syncdiff_data.sync_expert.expert import SyncExpert, save_network
from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork
from syncdiff_data.weights.state_dict import read_state
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import read_registry
from syncdiff_eval.pairing import pair_by_list
from syncdiff_eval.report.files import write_report
from syncdiff_eval.validate import read_valid_report
from syncdiff_model.checkpoint import load_state, load_syncdiff
from syncdiff_model.dub_pairs import read_pairs, stale_dubs
from syncdiff_model.presets import Settings, load_preset
from syncdiff_model.runs import start_run

Read = Callable[[Path], object]
"""Reads a file, or a folder with the damaged file in it; an exception other than the expected ones is a finding."""


@dataclass(frozen=True)
class Kind:
    """Good files that are read together."""

    files: tuple[str, ...]
    """Those that are damaged, below the folder of the kind."""
    reads: Mapping[str, Read]
    """What is done -> with what: the folder of the kind, one of whose files is damaged."""
    damage: Callable[[bytes, np.random.Generator], bytearray] = damaged_text
    expected: tuple[type[Exception], ...] = (UserError,)
    amend: Callable[[Path], None] = lambda folder: None
    """After the damage, with the folder: what an attacker would make fit again, such as hashes."""


class Files:
    """A part made of kinds. make: writes the good files of all kinds, each below a folder of its name."""

    def __init__(self, make: Callable[[Path], None], kinds: Mapping[str, Kind]):
        self.make, self.kinds = make, kinds

    def load(self, good: Path, scratch: Path) -> LoadedFiles:
        return LoadedFiles(self.kinds, good, scratch)


class LoadedFiles:
    """One part in a worker."""

    def __init__(self, kinds: Mapping[str, Kind], good: Path, scratch: Path):
        self.kinds, self.good, self.scratch = kinds, good, scratch
        self._files = [(kind, file) for kind, entry in kinds.items() for file in entry.files]

    def damage(self, rng: np.random.Generator) -> tuple[str, bytes]:
        kind, file = self._files[int(rng.integers(len(self._files)))]
        data = (self.good / kind / file).read_bytes()
        return f"{kind}/{file}", bytes(self.kinds[kind].damage(data, rng))

    def whole(self) -> Iterator[tuple[str, bytes]]:
        """The good files, which are read without a refusal."""
        for kind, file in dict.fromkeys(self._files):
            yield f"{kind}/{file}", (self.good / kind / file).read_bytes()

    def acts(self, name: str, data: bytes) -> Iterator[tuple[str, Callable[[], str]]]:
        kind, _, file = name.partition("/")
        entry = self.kinds[kind]
        folder = self.scratch / kind
        for left in self.scratch.iterdir():
            shutil.rmtree(left)
        shutil.copytree(self.good / kind, folder)
        (folder / file).write_bytes(data)
        entry.amend(folder)
        for doing, read in entry.reads.items():
            yield f"{kind}: {doing}", lambda read=read: _end(read, folder, entry.expected)  # type: ignore[misc]
        yield f"{kind}: nothing ran", lambda: _nothing_ran(self.scratch)


def _nothing_ran(scratch: Path) -> str:
    """Nothing was written beside the folder, and no pickle ran."""
    outside = [path.name for path in scratch.iterdir()]
    if len(outside) > 1 or Path("RAN").exists() or Path("../RAN").exists() or Path("/tmp/RAN").exists():
        raise AssertionError(f"written: {outside}, or RAN in the working directory")
    return "true"


def _end(read: Read, folder: Path, expected: tuple[type[Exception], ...]) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except expected as error:
        printable(str(error))
        return "refused"
    return "read"


# Tables.

PAIRS = "video,audio,output\na.mp4,b.wav,c/d.mp4\nb.mp4,a.mp4,ä.mp4\n"
TALKVID = [{"id": "a", "info": {"Person ID": "7", "Video Link": "https://youtu.be/abc_1"}, "start-time": 1.5}]


def make_counted(folder: Path, shards: list[list[Clip]]) -> None:
    """A data set of clips with its features, as preprocess and extract_features leave them."""
    for dataset in make_dataset(folder, shards):
        path = Path(dataset) / "dataset.json"
        count = sum(map(len, shards))
        counts = {
            "sources": count,
            "clips": count,
            "frames": 12 * count,
            "rejects": 0,
            "rejects_by_reason": {},
        }
        path.write_text(json.dumps(json.loads(path.read_text()) | {"counts": counts}))
    store = Store(folder / "clips")
    for number in range(len(shards)):
        sources = tuple((clip.source, 1, "") for clip in shards[number])
        write_shard(
            store, Footer("rejects", "clips", "plan", number, len(shards), sources=sources), REJECTS, []
        )


def make_tables(good: Path) -> None:
    for name in KINDS_OF_TABLES:
        (good / name).mkdir()
    (good / "dub pairs" / "pairs.csv").write_text(PAIRS)
    videos = good / "benchmark pairs"
    for name in ("a.mp4", "b.mp4", "b.wav"):
        (videos / name).write_bytes(b"x")
    (videos / "pairs.csv").write_text("video,audio,output,speaker\na.mp4,b.mp4,c,ada\nb.mp4,a.mp4,d/ä,ben\n")
    (videos / "lrs.txt").write_text("a b\nb a\n")
    (videos / "a.txt").write_text("Text:  HELLO WORLD\nConf:  4\n")
    manifest = good / "manifest"
    (manifest / "a.mp4").write_bytes(b"x")
    (manifest / "list.csv").write_text("path,split,speaker,text\na.mp4,train,ada,hello\n")
    (good / "methods" / "methods.yaml").write_text(
        "methods:\n- {name: a, type: gan, citation: 'A, 2020', folder: a}\n- {name: b-c, type: diffusion}\n"
    )
    (good / "preset" / "a.yaml").write_text(
        "mask: {top: 0.5, feather: 0.1}\ntrain_gan: {steps: 10, batch_size: 2, window: 10}\n"
        "conditioning: {pose: none, context: 3}\nidentity: similar\n"
    )
    (good / "talkvid" / "abc_1").mkdir()
    (good / "talkvid" / "abc_1" / "abc_1_0_1.5_2.5.mp4").write_bytes(b"x")
    (good / "talkvid" / "list.json").write_text(json.dumps(TALKVID))
    (good / "lrs2" / "main" / "1").mkdir(parents=True)
    (good / "lrs2" / "main" / "1" / "00001.mp4").write_bytes(b"x")
    (good / "lrs2" / "main" / "1" / "00001.txt").write_text("Text:  HELLO WORLD\nConf:  4\n")
    (good / "lrs2" / "train.txt").write_text("1/00001\n")
    make_counted(good / "data set", [[numbered_clip(0, 10)]])
    (good / "dubs" / "dubs.json").write_text(
        json.dumps({"model": "m", "config": {}, "pairs": [["a", "b", "c.mp4"]]})
    )
    start_run(good / "run", "syncdiff", Settings(), False)
    report = sample(num_clips=3)
    write_report(good / "report", report.results, report.per_clip, lambda method, clip: None)
    Cache(good / "cache").write("key", {"status": "failed", "reason": "unreadable"}, {"a": np.zeros(3)})


def _stale(folder: Path) -> None:
    for path in stale_dubs(folder, {"model": "other"}, True):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise AssertionError(f"{path} would be removed")


KINDS_OF_TABLES = {
    "dub pairs": Kind(("pairs.csv",), {"read": lambda f: read_pairs(f / "pairs.csv", f / "out")}),
    "benchmark pairs": Kind(
        ("pairs.csv", "pairs.csv", "lrs.txt", "a.txt"),
        {
            "csv": lambda f: pair_by_list(f, f / "pairs.csv", "csv"),
            "lrs": lambda f: pair_by_list(f, f / "lrs.txt", "wav2lip-lrs"),
            "transcript": lambda f: find_transcript(f, "a.mp4"),
        },
    ),
    "manifest": Kind(("list.csv",), {"read": lambda f: list_sources("folder", f / "list.csv")}),
    "methods": Kind(("methods.yaml",), {"read": lambda f: read_registry(f / "methods.yaml")}),
    "preset": Kind(("a.yaml",), {"read": lambda f: load_preset(str(f / "a.yaml"))}),
    "talkvid": Kind(("list.json",), {"read": lambda f: list_sources("talkvid", f)}),
    "lrs2": Kind(
        ("train.txt", "main/1/00001.txt"),
        {"train": lambda f: list_sources("lrs2", f, "train"), "all": lambda f: list_sources("lrs2", f)},
    ),
    "data set": Kind(
        ("clips/dataset.json", "features/dataset.json"),
        {
            "load": lambda f: load_dataset(Store(f / "clips")),
            "clips": lambda f: list(read_clips(f / "clips")),
            "features": lambda f: list(read_features(f / "features")),
            "inspect": lambda f: summarise(f / "clips", Console(file=io.StringIO())),
            "check": lambda f: ShardChecker(str(f / "features"), str(f / "clips")).check(0),
            "batches": lambda f: read_batches((str(f / "clips"), str(f / "features")), 1, window=5),
        },
    ),
    "dubs": Kind(("dubs.json",), {"overwrite": _stale}),
    "run": Kind(("run.json",), {"resume": lambda f: start_run(f, "syncdiff", Settings(), True)}),
    "report": Kind(("results.json",), {"validate": read_valid_report}),
    "cache": Kind(("key.json",), {"read": lambda f: Cache(f).read("key")}),
}


# Shards.


def clip_with_mouth(number: int) -> Clip:
    spoken = spoken_clip(12, number)
    return replace(numbered_clip(number, 12), mouth_png=spoken.mouth_png, audio=spoken.audio)


def make_shards(good: Path) -> None:
    for name in KINDS_OF_SHARDS:
        (good / name).mkdir()
    make_counted(good / "shards", [[clip_with_mouth(1), numbered_clip(3, 10)], [numbered_clip(2, 11, "val")]])
    report = sample(num_clips=3)
    write_report(good / "report", report.results, report.per_clip, lambda method, clip: None)
    frames = numbered_clip(0, 1).face[0]
    (good / "pictures" / "a.jpg").write_bytes(encode_jpeg(frames))
    (good / "pictures" / "a.png").write_bytes(encode_gray(frames[..., 0]))
    (good / "pictures" / "a.flac").write_bytes(encode_flac(np.arange(6400, dtype=np.int16)))
    (good / "arrays").mkdir(exist_ok=True)
    Cache(good / "arrays").write("key", {"status": "stored"}, {"a": np.zeros(3), "b": np.ones((4, 5))})
    np.save(good / "arrays" / "mean.npy", np.random.default_rng(0).normal(size=(68, 2)))


def _check_all(folder: Path) -> None:
    for kind in ("clips", "features"):
        checker = ShardChecker(str(folder / kind), str(folder / "clips") if kind == "features" else None)
        for number in range(2):
            checker.check(number)


def _batches(folder: Path, damaged: str) -> None:
    read_batches(
        (str(folder / "clips"), str(folder / "features")), 3, damaged=damaged, window=5, batch_size=2
    )


KINDS_OF_SHARDS = {
    "shards": Kind(
        tuple(
            f"{kind}/{kind}/{kind}-0000{n}-of-00002.parquet" for kind in ("clips", "features") for n in (0, 1)
        ),
        {
            "validate": _check_all,
            "clips": lambda f: [(clip.face, clip.mouth) for clip in read_clips(f / "clips")],
            "features": lambda f: list(read_features(f / "features")),
            "inspect": lambda f: summarise(f / "features", Console(file=io.StringIO()), str(f / "clips")),
            "sheet": lambda f: contact_sheet(f / "clips", f / "sheet.png"),
            "skip damaged": lambda f: _batches(f, "skip"),
            "batches": lambda f: _batches(f, "raise"),
        },
        damaged_binary,
        (UserError, DamagedShard, ValueError),
    ),
    "report": Kind(("per_clip.parquet",), {"validate": read_valid_report}, damaged_binary),
    "pictures": Kind(
        ("a.jpg", "a.png", "a.flac"),
        {
            "jpeg": lambda f: decode_jpeg((f / "a.jpg").read_bytes()),
            "jpeg into": lambda f: decode_jpeg_into(
                (f / "a.jpg").read_bytes(), np.empty((32, 32, 3), np.uint8)
            ),
            "png": lambda f: decode_gray((f / "a.png").read_bytes()),
            "flac": lambda f: decode_flac((f / "a.flac").read_bytes()),
        },
        damaged_binary,
        (ValueError, RuntimeError, cv2.error),
    ),
    "arrays": Kind(
        ("key.npz", "mean.npy"),
        {"cache": lambda f: Cache(f).arrays("key"), "mean face": lambda f: load_mean_face(f / "mean.npy")},
        damaged_binary,
    ),
}


# Checkpoints.


class Runs:
    """Pickled, it is a call that makes the file RAN beside the folder of the damaged file."""

    def __init__(self, call: Callable[..., Any], *arguments: object):
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call, self.arguments


ATTACKS = (
    Runs(os.system, "touch RAN /tmp/RAN"),
    Runs(eval, "open('RAN', 'w')"),
    Runs(exec, "open('RAN', 'w')"),
    Runs(open, "RAN", "w"),
    Runs(__import__, "os"),
)


def attacked(data: bytes, rng: np.random.Generator) -> bytearray:
    """A damaged file, or now and then a pickle that runs code, bare, as a zip of torch.save or in its old format."""
    import torch

    if rng.random() < 0.7:
        return damaged_binary(data, rng)
    attack = ATTACKS[int(rng.integers(len(ATTACKS)))]
    payload = {"state_dict": attack, "model": attack, "cfg": attack}
    out = io.BytesIO()
    if rng.random() < 0.3:
        pickle.dump(payload, out, protocol=int(rng.integers(6)))
    else:
        torch.save(payload, out, _use_new_zipfile_serialization=bool(rng.random() < 0.5))
    return bytearray(out.getvalue())


def damaged_config(data: bytes, rng: np.random.Generator) -> bytearray:
    """Of a text as text, of tensors as bytes."""
    is_text = data[:1] in (b"{", b"[")
    kinds: tuple[Damage, ...] = (damaged_text,) if is_text else (attacked, damaged_binary)
    return kinds[int(rng.integers(len(kinds)))](data, rng)  # type: ignore[arg-type]


def fit_hashes(folder: Path) -> None:
    """The index says the hashes of the damaged files, so that they are read."""
    import hashlib

    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text())
        for name in index["sha256"]:
            index["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        path.write_text(json.dumps(index))
    except Exception:  # the index itself is damaged
        return


MODEL_FILES = (
    "model_index.json",
    "autoencoder/config.json",
    "autoencoder/diffusion_pytorch_model.safetensors",
    "conditioner/config.json",
    "conditioner/diffusion_pytorch_model.safetensors",
    "denoiser/config.json",
    "denoiser/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)


def make_checkpoints(good: Path) -> None:
    import torch

    for name in KINDS_OF_CHECKPOINTS:
        if name not in ("model", "model that fits"):
            (good / name).mkdir()
    save_tiny_model(good / "model")
    save_tiny_model(good / "model that fits")
    torch.manual_seed(0)
    save_network(SyncNetwork(NetworkConfig(8, (8, 8, 8, 8), True, 8, 8, 3)), good / "expert")
    write_tiny_checkpoint(good / "published" / "avhubert.pt", foreign_classes=True)
    write_tiny_checkpoint(good / "published" / "old.pt", legacy=True)
    torch.save({"state_dict": {"a.weight": torch.zeros(3, 4)}, "step": 3}, good / "published" / "net.pth")
    torch.save({"step": 3, "state": {0: torch.zeros(4)}}, good / "published" / "state.pt")


diffusers.logging.set_verbosity_error()  # it warns of every key that it does not know
KINDS_OF_CHECKPOINTS = {
    "model": Kind(MODEL_FILES, {"load": load_syncdiff}, damaged_config),
    "model that fits": Kind(MODEL_FILES, {"load": load_syncdiff}, damaged_config, amend=fit_hashes),
    "expert": Kind(
        ("config.json", "model.safetensors"), {"load": SyncExpert.from_pretrained}, damaged_config
    ),
    "published": Kind(
        ("avhubert.pt", "old.pt", "net.pth", "state.pt"),
        {
            "avhubert": lambda f: read_weights(f / "avhubert.pt"),
            "old": lambda f: read_weights(f / "old.pt"),
            "state dict": lambda f: read_state(f / "net.pth", "Wav2Lip"),
            "training state": lambda f: load_state(f / "state.pt"),
        },
        attacked,
    ),
}

PARTS = {
    "tables": Files(make_tables, KINDS_OF_TABLES),
    "shards": Files(make_shards, KINDS_OF_SHARDS),
    "checkpoints": Files(make_checkpoints, KINDS_OF_CHECKPOINTS),
}
