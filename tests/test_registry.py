"""Registries: names of this package, and `module:NAME` of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import command, extract, preprocess
from stub_faces import write_colour

from syncdiff_data.faces import FaceConfig, load_backend
from syncdiff_data.features import ENCODERS, encoder_files, load_encoder
from syncdiff_data.features.base import EncoderOptions
from syncdiff_data.records import UserError
from syncdiff_data.shards import read_features
from syncdiff_data.sources import SOURCES, list_sources
from syncdiff_data.weights import file_sha256
from syncdiff_eval.metrics import load_family
from syncdiff_eval.protocols import PROTOCOLS

OWN = """
import re
import numpy as np
from syncdiff_data.sources.adapter import Adapter, media_files
from syncdiff_data.records import Source
from syncdiff_eval.metrics.image import IMAGE

SHOWS = Adapter(
    find=lambda request: (Source(path, size, speaker="me") for path, size in media_files(request.root)),
    layout="any video",
    fits=re.compile(".*"),
)

def make_shows():
    return SHOWS

class Loudness:
    columns = {"loudness": 1}

    def __init__(self, options):
        pass

    def encode(self, clips):
        return [{"loudness": np.ones((clip.num_frames, 1), np.float32)} for clip in clips]

NOT_ONE = 3
CLASH = IMAGE
"""


INSIDE = """
from syncdiff_data.features import EncoderEntry
from syncdiff_eval.metrics.base import Column, MetricFamily

def load(*arguments):
    raise NotImplementedError

ENTRY = EncoderEntry(load)
FAMILY = MetricFamily("mine", (Column("mine", "Mine", "", True, 2),), 1, load)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own, on the path of this process."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_unknown_names_are_sentences_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source 'lrs4': choose one of folder, grid"):
        list_sources("lrs4", tmp_path)
    with pytest.raises(UserError, match="no encoder 'wav': choose one of logfbank"):
        load_encoder("wav")
    with pytest.raises(UserError, match="no face backend 'eyes': choose one of embedded"):
        load_backend(FaceConfig(backend="eyes"), {})
    with pytest.raises(UserError, match="no metric 'psnr': choose one of lse"):
        load_family("psnr")


@pytest.mark.parametrize("name", ["nowhere:THING", "json:THING"])
def test_what_cannot_be_imported_is_a_sentence(tmp_path: Path, name: str) -> None:
    for load in (lambda: list_sources(name, tmp_path), lambda: load_encoder(name), lambda: load_family(name)):
        with pytest.raises(UserError, match="cannot be loaded"):
            load()


@pytest.mark.parametrize("content", ["def (", "undefined_name", "raise RuntimeError('no')"])
def test_a_module_that_fails_while_it_is_imported_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    name = f"broken_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_encoder(f"{name}:THING")


def test_what_cannot_be_made_is_a_sentence() -> None:
    for load in (load_encoder, load_family):
        with pytest.raises(UserError, match="cannot be made from"):
            load("json:__name__")
    with pytest.raises(UserError, match="cannot be made from"):
        load_backend(FaceConfig(backend="json:JSONDecoder"), {})


def test_code_is_hashed_where_it_is_defined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where it is named: a package that only gathers names does not change with it."""
    package = tmp_path / f"gathers_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").write_text("from .inside import ENTRY, FAMILY\n")
    (package / "inside.py").write_text(INSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert encoder_files(f"{package.name}:ENTRY", EncoderOptions()).popitem()[1].name == "inside.py"
    assert load_family(f"{package.name}:FAMILY").content_hash == file_sha256(package / "inside.py")


def test_a_source_of_ones_own(own: str, tmp_path: Path) -> None:
    write_colour(tmp_path / "videos" / "a.mp4", "face")
    (source,) = list_sources(f"{own}:SHOWS", tmp_path / "videos")
    assert (source.path, source.speaker) == ("a.mp4", "me")
    (made,) = list_sources(f"{own}:make_shows", tmp_path / "videos")
    assert made == source
    with pytest.raises(UserError, match="must be an Adapter"):
        list_sources(f"{own}:NOT_ONE", tmp_path)


def test_a_metric_may_not_take_anothers_columns(own: str) -> None:
    with pytest.raises(UserError, match="takes the name 'psnr_face'"):
        load_family(f"{own}:CLASH")
    with pytest.raises(UserError, match="must be a MetricFamily"):
        load_family("builtins:dict")


def test_an_encoder_of_ones_own_is_known_by_its_code(own: str) -> None:
    """It decides the numbers, so that a changed file makes another data set."""
    assert [path.name for path in encoder_files(f"{own}:Loudness", EncoderOptions()).values()] == [
        f"{own}.py"
    ]
    with pytest.raises(UserError, match="has no layers"):
        load_encoder(f"{own}:Loudness", EncoderOptions(layers=(1,)))


def test_an_encoder_of_the_tests_runs_on_workers(tmp_path: Path, ray_session: None) -> None:
    write_colour(tmp_path / "videos" / "a.mp4", "face")
    preprocess(tmp_path / "videos", tmp_path / "clips")
    extract(tmp_path / "clips", tmp_path / "features", "own_encoder:Loudness")
    ((_, columns),) = read_features(tmp_path / "features")
    assert columns["loudness"].shape == (12, 1)
    recipe = json.loads((tmp_path / "features" / "dataset.json").read_text())["recipe"]
    assert recipe["config"]["encoder"] == "own_encoder:Loudness"
    assert list(recipe["weights"]) == ["own_encoder:Loudness"]


def test_help_lists_the_registries() -> None:
    for name, registry in (("preprocess", SOURCES), ("extract_features", ENCODERS), ("benchmark", PROTOCOLS)):
        shown = "".join(command(name, "--help", COLUMNS="200").stdout.split())
        assert all(entry in shown for entry in registry)
