"""Files and names of others: they lead nowhere, run nothing and ask for no endless work (docs/security.md).

Most cases were found by benchmarks/fuzz.py.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import tracemalloc
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from loader_data import FEATURE_SIZE, make_dataset, numbered_clip
from media_files import make_video, numbered
from report_samples import sample
from tiny_models import save_tiny_model

from syncdiff_data.avhubert.pickle_reader import read_pt
from syncdiff_data.cli import LONGEST_SENTENCE, printable
from syncdiff_data.documents import parse_json, parse_yaml
from syncdiff_data.faces.mean_face import load_mean_face
from syncdiff_data.loader import ClipWindows, LoaderConfig
from syncdiff_data.media import AudioTrack, Video, write_redub, write_video
from syncdiff_data.media.codecs import BLOCK, decode_flac, encode_flac
from syncdiff_data.media.probe import _ebml_number, open_media
from syncdiff_data.media.soundtrack import sound_start
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.shards import Store, load_dataset, read_clips, read_features
from syncdiff_data.shards.check import ShardChecker
from syncdiff_data.shards.schema import Footer
from syncdiff_data.sources.folder import read_manifest
from syncdiff_data.weights.state_dict import read_state
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import read_registry
from syncdiff_eval.pairing import pair_by_list
from syncdiff_eval.report.files import write_report
from syncdiff_eval.report.latex import latex
from syncdiff_eval.report.tables import comma_separated
from syncdiff_eval.validate import read_valid_report
from syncdiff_model.checkpoint import INDEX, load_syncdiff
from syncdiff_model.dub_lists import _missing_input
from syncdiff_model.dub_pairs import stale_dubs
from syncdiff_model.dubbing import DubPair, _check_sound_gaps
from syncdiff_model.generators import check_own_code
from syncdiff_model.presets import Settings, load_preset
from syncdiff_model.runs import start_run

DEEP = "[" * 5_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
"""400 bytes that are 400 million values."""


@pytest.mark.parametrize(
    "text", [DEEP, BOMB, "- &a [*a]", "!!python/object/apply:os.getpid []", "2001-99-99", "[}"]
)
def test_yaml_is_data_and_bounded(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_yaml(text)
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for read in (load_preset, read_registry):
        with pytest.raises(UserError):
            read(str(path) if read is load_preset else path)  # type: ignore[operator]
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


def test_json_that_is_nested_endlessly_is_refused(tmp_path: Path) -> None:
    for text in (DEEP, '{"a":' * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r"nested too deeply|decode"):
            parse_json(text)


def test_a_sentence_holds_no_commands_of_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\n\u202ec") == "a\\x1b[2Jb\\x07\n\\u202ec"
    assert len(printable("x" * 10**6)) < LONGEST_SENTENCE + 10


LONG = "x" * 300 + ".mp4"
"""A name that no file can have."""


@pytest.mark.parametrize("name", ["../outside.mp4", "/etc/passwd", "a/../../outside.mp4", LONG, "a\0b.mp4"])
def test_pairs_of_a_benchmark_stay_below_the_references(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.mp4").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    listed = tmp_path / "pairs.csv"
    for row in (f"{name},a.mp4,a", f"a.mp4,{name},a"):
        listed.write_text(f"video,audio,output\n{row}\n")
        with pytest.raises(UserError):
            pair_by_list(tmp_path / "real", listed, "csv")


def test_names_that_no_file_can_have_are_missing_files(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"path\n{LONG}\n")
    with pytest.raises(UserError, match="are not there"):
        read_manifest(listed)
    assert "does not exist" in str(
        _missing_input(DubPair(tmp_path / LONG, tmp_path / "a.wav", tmp_path / "b.mp4"))
    )


@pytest.mark.parametrize("output", ["../victim.mp4", "/victim.mp4", "a/../../victim.mp4", 3, "victim.txt"])
def test_a_list_of_dubs_names_no_file_outside_to_remove(output: object, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dubs.json").write_text(json.dumps({"pairs": [["a", "b", output]]}))
    with pytest.raises(UserError):
        stale_dubs(tmp_path / "out", {}, overwrite=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_shards": 10**12},
        {"num_shards": -1},
        {"kind": "../clips"},
        {"recipe": []},
        {"counts": 3},
        {"recipe": {"config": 1}},
    ],
)
def test_a_dataset_json_is_checked(changed: dict[str, object], tmp_path: Path) -> None:
    clips, _ = make_dataset(tmp_path, [[numbered_clip(0, 10)]])
    path = Path(clips) / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(UserError, match="is damaged"):
        load_dataset(Store(clips))


def test_a_damaged_footer_is_none() -> None:
    schema = Footer("clips", "f", "p", 0, 1).attach(__import__("pyarrow").schema([]))
    assert Footer.of(schema) is not None
    for raw in (b"[]", b"{}", b"\xff", DEEP.encode(), b'{"sources": 3}'):
        assert Footer.of(schema.with_metadata({b"syncdiff": raw})) is None


def test_damaged_files_of_runs_and_caches_are_named_or_made_again(tmp_path: Path) -> None:
    start_run(tmp_path, "syncdiff", Settings(), False)
    (tmp_path / "run.json").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        start_run(tmp_path, "syncdiff", Settings(), True)
    cache = Cache(tmp_path)
    cache.write("key", {"a": 1}, {"b": np.arange(9)})
    (tmp_path / "other.npz").write_bytes((tmp_path / "key.npz").read_bytes())
    with pytest.raises(
        UserError, match=r"other\.npz of the cache is damaged \(it is a copy of another entry\)"
    ):
        cache.arrays("other")
    (tmp_path / "key.npz").write_bytes((tmp_path / "key.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match="of the cache is damaged"):
        cache.arrays("key")
    (tmp_path / "key.json").write_text("[")
    assert cache.read("key") is None


NESTED = pa.list_(pa.list_(pa.float16()))
DOUBLES = pa.list_(pa.list_(pa.float64(), FEATURE_SIZE))


def test_a_sound_takes_memory_for_what_is_there() -> None:
    """Its header may promise 2^36 samples."""
    sound = np.random.default_rng(0).integers(-9000, 9000, 3 * BLOCK // 2).astype(np.int16)
    data = bytearray(encode_flac(sound))
    assert np.array_equal(decode_flac(bytes(data)), sound)
    data[21] |= 0x0F  # STREAMINFO: the upper bits of the number of samples
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert file.frames > 2**35
    tracemalloc.start()
    try:
        assert np.array_equal(decode_flac(bytes(data)), sound)
    except RuntimeError:
        pass  # libsndfile misses the promised samples
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * BLOCK


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("features", lambda table: table.rename_columns(["cliprid", "logfbank"])),
        ("features", lambda table: table.set_column(1, "logfbank", table["logfbank"].cast(NESTED))),
        ("clips", lambda table: table.rename_columns({"clip_id": "clip_ie"})),
        ("features", lambda table: table.append_column("clip_id", table["clip_id"])),
        ("features", lambda table: table.set_column(1, "logfbank", table["logfbank"].cast(DOUBLES))),
        ("clips", lambda table: table.drop_columns(["landmarks"])),
    ],
)
def test_a_shard_with_other_columns_is_damaged(
    tmp_path: Path, kind: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    clips, features = make_dataset(tmp_path, [[numbered_clip(n, 6)] for n in range(2)])
    path = next((tmp_path / kind / kind).glob("*00001-of-*"))
    table = change(pq.read_table(path))
    pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path, row_group_size=1)
    report = ShardChecker(features, clips).check(1)
    assert len(report.problems) > 0
    config = LoaderConfig(window=2, damaged="skip", epochs=1, windows_per_visit=1)
    with pytest.warns(UserWarning, match="left out"):
        kept = ClipWindows(clips, features, config)
    assert kept.index.clip_id.tolist() == ["clip0000"]
    with pytest.raises(UserError):
        list(read_features(features) if kind == "features" else read_clips(clips))


class Runs:
    """A call when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_no_pickle_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "mean.npy", np.array([Runs()]), allow_pickle=True)
    with pytest.raises(UserError):
        load_mean_face(tmp_path / "mean.npy")
    for legacy in (False, True):
        torch.save({"state_dict": Runs()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="Nothing in it was run"):
            read_state(tmp_path / "a.pth", "Wav2Lip")
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError):
        read_state(tmp_path / "a.pth", "Wav2Lip")
    # A checkpoint whose weights are a pickle, with an index that fits.
    model = save_tiny_model(tmp_path / "model")
    part = model / "autoencoder"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"a": Runs()}, part / "diffusion_pytorch_model.bin")
    index = json.loads((model / INDEX).read_text())
    del index["sha256"]["autoencoder/diffusion_pytorch_model.safetensors"]
    (model / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match="autoencoder is damaged"):
        load_syncdiff(model)
    assert not (tmp_path / "ran").exists()


def test_weights_whose_zip_says_that_it_spans_disks_are_refused(tmp_path: Path) -> None:
    """Python's zipfile raises where it is asked whether the file is a zip at all."""
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2)}, path)
    data = bytearray(path.read_bytes())
    disks = data.rindex(b"PK\x06\x07") + 16
    data[disks : disks + 4] = (2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a file of Wav2Lip weights"):
        read_state(path, "Wav2Lip")
    with pytest.raises(UserError, match="not a readable PyTorch checkpoint"):
        read_pt(path)


@pytest.mark.parametrize(
    "changed", [{"sha256": {"autoencoder/../../x": ""}}, {"sha256": 3}, {"denoiser": "x"}]
)
def test_an_index_of_a_model_leads_nowhere(changed: dict[str, object], tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    (model / INDEX).write_text(json.dumps(json.loads((model / INDEX).read_text()) | changed))
    with pytest.raises(UserError):
        load_syncdiff(model)


@pytest.mark.parametrize(
    ("key", "value"), [("encoder", "evil:Encoder"), ("faces", {"backend": "evil:Backend"})]
)
def test_a_checkpoint_names_no_code_that_the_user_does_not(key: str, value: object, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    check_own_code(str(model), ())
    path = model / "conditioner" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match="--own-code evil:"):
        check_own_code(str(model), ())
    check_own_code(str(model), ("evil:Encoder", "evil:Backend"))


def test_a_pickle_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.")  # BINBYTES8
    with pytest.raises(UserError, match=r"asks for more memory|not a readable"):
        read_pt(tmp_path / "a.pt")


def test_a_report_of_others_brings_no_markup(tmp_path: Path) -> None:
    made = sample(num_clips=3)
    metric = made.results.metrics[0].model_copy(update={"group": "x}\\input{/etc/passwd}", "unit": "=1+1"})
    results = made.results.model_copy(update={"metrics": [metric, *made.results.metrics[1:]]})
    assert "\\input{" not in latex(results)
    assert ",=1+1," not in comma_separated(results)
    write_report(tmp_path, made.results, made.per_clip, lambda method, clip: None)
    read_valid_report(tmp_path)
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace('"name": "softgan"', '"name": "a|<b>"'))
    with pytest.raises(UserError, match="cannot stand in a table"):
        read_valid_report(tmp_path)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(1), file.setframerate(rate)
        file.writeframes(samples.astype(np.uint8).tobytes())
    return path


@pytest.mark.parametrize("rate", [1, 2_000_000])
def test_a_sample_rate_that_would_fill_the_memory_is_refused(rate: int, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=f"a sample rate of {rate} Hz"):
        AudioTrack(write_wav(tmp_path / "a.wav", np.zeros(100), rate))


def test_pictures_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mkv", range(3))
    monkeypatch.setattr("syncdiff_data.media.probe.MOST_PIXELS", 64 * 96 - 1)
    with pytest.raises(MediaError, match="its pictures have 96 x 64 pixels"):
        Video(path)


def test_samples_that_are_no_numbers_are_silent_in_a_dub(tmp_path: Path) -> None:
    """The encoder of AAC refuses them."""
    video = make_video(tmp_path / "a.mp4", range(5))
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype("<f4")
    samples[::1000], samples[1::1000], samples[2::1000] = np.nan, np.inf, 1e30
    head = b"RIFF" + (36 + samples.nbytes).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\x03\0\x01\0"
    head += (16_000).to_bytes(4, "little") + (64_000).to_bytes(4, "little") + b"\x04\0\x20\0data"
    (tmp_path / "a.wav").write_bytes(head + samples.nbytes.to_bytes(4, "little") + samples.tobytes())
    source = Video(video, fps=None)
    write_redub(tmp_path / "out.mp4", source.frames(), source, tmp_path / "a.wav")
    assert AudioTrack(tmp_path / "out.mp4").end_s > 0.1


def test_packets_that_an_mp4_refuses_are_encoded_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [numbered(number) for number in range(10)]
    write_video(tmp_path / "a.mp4", frames, np.zeros(6400, np.int16))
    monkeypatch.setattr("syncdiff_data.media.soundtrack._mp4_takes", lambda path, stamps: False)
    source = Video(tmp_path / "a.mp4", fps=None)
    write_redub(tmp_path / "out.mp4", source.frames(), source, tmp_path / "a.mp4")
    assert AudioTrack(tmp_path / "out.mp4").end_s == pytest.approx(0.4, abs=0.1)


def test_a_dub_as_long_as_its_sound_is_not_endless(tmp_path: Path) -> None:
    """The sound's clock jumps by a day: a video that is looped for so long would be made for ever."""
    import av

    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for at in (0, 86_400 * 16_000):
            block = av.AudioFrame.from_ndarray(np.ones((1, 1600), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16_000, at, Fraction(1, 16_000)
            container.mux(stream.encode(block))
    track = AudioTrack(path)
    with pytest.raises(MediaError) as caught:
        _check_sound_gaps(track, float(sound_start(path)))
    assert caught.value.reason is Reason.BROKEN_TIMESTAMPS
    _check_sound_gaps(AudioTrack(write_wav(tmp_path / "a.wav", np.zeros(800), 8000)), 0.0)


@pytest.mark.parametrize("length", [4, 5, 6, 12, 60, 64, 65])
def test_a_matroska_file_cut_in_its_head_is_unreadable(length: int, tmp_path: Path) -> None:
    """Also where the declared size of the head leads to the end of the bytes that are looked at."""
    head = (b"\x1a\x45\xdf\xa3" + b"\xb7" + bytes(55) + b"\x18\x53\x80\x67" + b"\x01")[:length]
    (tmp_path / "a.mkv").write_bytes(head)
    with pytest.raises(MediaError), open_media(tmp_path / "a.mkv"):
        pass
    assert _ebml_number(b"\x82", 0) == (2, 1)
