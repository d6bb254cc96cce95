"""The loader: one clock for all parts of a sample, one order for any number of workers, no sample missing or twice."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_avhubert import write_tiny_checkpoint

from syncdiff_data.extract import ExtractConfig, ExtractStage
from syncdiff_data.images import decode_jpeg, decode_jpeg_into, encode_jpeg
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.loader.augment import MIRROR, colour_matrix, mirror, recolour
from syncdiff_data.loader.order import epoch_order, spread_windows
from syncdiff_data.loader.read import ClipReader
from syncdiff_data.loader.sample import choose_frames
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards import Store, read_features
from syncdiff_data.shards.clip_columns import vector_column
from syncdiff_data.shards.dataset import Dataset
from syncdiff_data.shards.rows import clip_table
from syncdiff_data.shards.schema import CLIPS, Footer, features_schema
from syncdiff_data.shards.write import write_shard
from syncdiff_data.stage import Context

SIZE = 32
FEATURE_SIZE = 4


def make_clip(number: int, num_frames: int, split: str | None = None) -> Clip:
    """A clip whose every value tells its number and frame: red is 8 * frame, green 8 * number."""
    frames = np.arange(num_frames)
    crops = np.zeros((num_frames, SIZE, SIZE, 3), np.uint8)
    crops[..., 0], crops[..., 1] = (8 * frames % 256)[:, None, None], 8 * number % 256
    affine = np.tile(np.array([[2.0, 0.5, 7.0], [-0.5, 2.0, 3.0]], np.float32), (num_frames, 1, 1))
    return Clip(
        clip_id=f"clip{number:04d}",
        source=f"{number:04d}.mp4",
        split=split,
        speaker=None,
        text=None,
        track=0,
        start_s=0.0,
        source_frame=frames.astype(np.int32),
        face_jpeg=tuple(encode_jpeg(crop) for crop in crops),
        mouth_png=None,
        audio=np.zeros(num_frames * 640, np.int16),
        landmarks=np.random.default_rng(number).uniform(0, 60, (num_frames, 68, 2)).astype(np.float32),
        box=np.zeros((num_frames, 4), np.float32),
        face_to_source=affine,
    )


def write_dataset(root: Path, kind: str, shards: Sequence[Sequence[pa.Table]], schema: pa.Schema) -> str:
    """A finished data set of one table, from tables of one row each; no encoder or face backend needed."""
    store = Store(root)
    for number, rows in enumerate(shards):
        write_shard(store, Footer(kind, kind, "plan", number, len(shards), SIZE), schema, rows)
    recipe = {"config": {"clips": "clips"}}
    Dataset(kind, "made", recipe, kind, "plan", len(shards), complete=True).save(store)
    return str(root)


def feature_table(clip: Clip, schema: pa.Schema) -> pa.Table:
    """Features that tell the clip's number and the frame."""
    values = np.zeros((clip.num_frames, FEATURE_SIZE), np.float16)
    values[:, 0], values[:, 1] = int(clip.clip_id[4:]), np.arange(clip.num_frames)
    return pa.Table.from_arrays([pa.array([clip.clip_id]), vector_column(values)], schema=schema)


def make_dataset(root: Path, shards: Sequence[Sequence[Clip]]) -> tuple[str, str]:
    """The folders of a clips data set and of its features."""
    schema = features_schema({"logfbank": FEATURE_SIZE})
    features = [[feature_table(clip, schema) for clip in shard] for shard in shards]
    clips = [[clip_table(clip) for clip in shard] for shard in shards]
    return (
        write_dataset(root / "clips", "clips", clips, CLIPS),
        write_dataset(root / "features", "features", features, schema),
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Four shards of 3, 0, 5 and 3 clips of 10 to 20 frames, the last shard of split `val`."""
    numbers = iter(range(11))
    shards = [
        [make_clip(number, 10 + number, split) for number in itertools.islice(numbers, count)]
        for count, split in ((3, "train"), (0, "train"), (5, "train"), (3, "val"))
    ]
    return make_dataset(tmp_path_factory.mktemp("loader"), shards)


@pytest.fixture
def damaged(dataset: tuple[str, str], tmp_path: Path) -> tuple[str, str]:
    """A copy of the data set that a test may harm."""
    shutil.copytree(Path(dataset[0]).parent, tmp_path / "copy")
    return str(tmp_path / "copy" / "clips"), str(tmp_path / "copy" / "features")


def read(dataset: tuple[str, str], count: int | None = None, workers: int = 0, **options) -> list[dict]:
    """The first batches of a loader."""
    config = LoaderConfig(**({"batch_size": 4} | options))
    return list(itertools.islice(Loader(ClipWindows(*dataset, config), workers), count))


def names(batches: Iterable[dict]) -> list[tuple[str, int]]:
    """Clip and first frame of every sample, in order."""
    return [pair for batch in batches for pair in zip(batch["clip_id"], batch["first_frame"].tolist())]


def frame_numbers(images: torch.Tensor) -> torch.Tensor:
    """The frames that images [..., 3, S, S] of `make_clip` show."""
    return (images[..., 0, :, :].float().mean((-1, -2)) / 8).round().long()


def test_every_part_of_a_sample_shows_the_same_moment(dataset):
    window, context, offset = 5, 3, 2
    for batch in read(dataset, 8, window=window, context=context, pose_offset=offset):
        numbers = torch.tensor([int(name[4:]) for name in batch["clip_id"]])
        last = (numbers + 9)[:, None]
        times = batch["first_frame"][:, None] + torch.arange(window)
        assert batch["frames"].shape == (4, window, 3, SIZE, SIZE)
        assert batch["features"].shape == (4, window, context, FEATURE_SIZE)
        assert batch["features"].dtype == batch["landmarks"].dtype == torch.float32
        assert torch.equal(frame_numbers(batch["frames"]), times)
        assert torch.equal(frame_numbers(batch["pose"]), (times - offset).clamp(min=0))
        around = (times[..., None] + torch.arange(-1, 2)).clamp(min=0).minimum(last[..., None])
        assert torch.equal(batch["features"][..., 1].long(), around)
        assert torch.equal(batch["features"][..., 0].long(), numbers[:, None, None].expand_as(around))
        identity = frame_numbers(batch["identity"])
        assert ((identity < times[:, 0]) | (identity > times[:, -1])).all()
        assert (identity <= last[:, 0]).all()
        for number, time, crop in zip(numbers, times, batch["landmarks"]):
            clip = make_clip(int(number), 10 + int(number))
            turn, shift = clip.face_to_source[0, :, :2], clip.face_to_source[0, :, 2]
            np.testing.assert_allclose(crop.numpy() @ turn.T + shift, clip.landmarks[time], atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-9, 9), st.integers(0, 2**32))
def test_frames_lie_inside_the_clip(num_frames, window, offset, seed):
    window = min(window, num_frames)
    chosen = choose_frames(num_frames, window, offset, np.random.default_rng(seed))
    assert chosen.window.tolist() == list(range(chosen.window[0], chosen.window[0] + window))
    assert 0 <= chosen.window[0] <= chosen.window[-1] < num_frames
    assert 0 <= chosen.identity < num_frames
    assert num_frames == window or chosen.identity not in chosen.window
    assert chosen.pose.tolist() == [min(max(t - offset, 0), num_frames - 1) for t in chosen.window]


def test_every_window_and_identity_frame_has_its_chance():
    rng = np.random.default_rng(0)
    drawn = [choose_frames(6, 3, 1, rng) for _ in range(300)]
    assert {(int(d.window[0]), d.identity) for d in drawn} == {
        (first, identity) for first in range(4) for identity in range(6) if not first <= identity < first + 3
    }


def test_an_epoch_visits_every_clip_and_no_epoch_is_like_another(dataset):
    visit, clips = 3, 11
    stream = names(read(dataset, 33, batch_size=2, windows_per_visit=visit))
    epochs = [stream[start : start + visit * clips] for start in (0, visit * clips)]
    for epoch in epochs:
        counts = Counter(name for name, _ in epoch)
        assert counts == {f"clip{number:04d}": visit for number in range(clips)}
    assert epochs[0] != epochs[1]
    assert names(read(dataset, 6, seed=1)) != names(read(dataset, 6))
    in_order = names(read(dataset, windows_per_visit=1, shuffle_shards=0, epochs=1))
    assert [name for name, _ in in_order] == [f"clip{number:04d}" for number in range(clips)]


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 200))
def test_windows_are_dealt_out_once_each(visits, windows, spread):
    order = spread_windows(visits, windows, spread)
    assert sorted(order.tolist()) == list(range(visits * windows))


@pytest.mark.parametrize(("workers", "ranks"), [(1, 1), (2, 1), (3, 2), (1, 4)])
def test_windows_of_a_visit_lie_apart_and_fall_to_one_worker(workers, ranks):
    windows, spread, batch_size = 4, 96, 8
    visit = spread_windows(480, windows, spread) // windows
    batches = visit.reshape(-1, batch_size)
    assert all(len(set(batch)) == batch_size for batch in batches.tolist())
    readers = np.arange(len(batches)) % (workers * ranks)
    for number in set(visit.tolist()):
        places = (visit == number).nonzero()[0]
        assert set(np.diff(places)) <= {spread + 1, *range(spread * 16, len(visit))}
        assert len(set(readers[places // batch_size])) == 1


def test_each_clip_is_read_once_an_epoch(dataset, monkeypatch):
    clips_read = []
    plain_read = ClipReader.read
    monkeypatch.setattr(
        ClipReader, "read", lambda self, clip: clips_read.append(clip) or plain_read(self, clip)
    )
    assert len(names(read(dataset, epochs=1, windows_per_visit=3))) == 33
    assert sorted(clips_read) == list(range(11))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 8), st.integers(0, 99))
def test_the_shuffle_keeps_few_shards_open(shards, block, epoch):
    shard = np.sort(np.array(shards))
    order = epoch_order(shard, 0, epoch, block)
    assert sorted(order.tolist()) == list(range(len(shard)))
    if block:
        visits = shard[order]
        spans = [(visits == number).nonzero()[0][[0, -1]] for number in set(shards)]
        open_at = [sum(first <= place <= last for first, last in spans) for place in range(len(visits))]
        assert max(open_at) <= block


def test_the_order_is_the_same_for_any_number_of_workers(dataset):
    alone = read(dataset, 9, workers=0, flip=True, colour_jitter=0.2)
    for workers in (1, 2):
        for one, other in zip(alone, read(dataset, 9, workers=workers, flip=True, colour_jitter=0.2)):
            assert one["clip_id"] == other["clip_id"]
            assert all(torch.equal(one[name], other[name]) for name in one if name != "clip_id")


def test_ranks_share_the_sequence_batch_by_batch(dataset):
    whole = names(read(dataset, 8, batch_size=3))
    config = LoaderConfig(batch_size=3)
    ranks = [itertools.islice(ClipWindows(*dataset, config, rank, 2), 4) for rank in range(2)]
    assert names(itertools.chain.from_iterable(zip(*ranks))) == whole


@pytest.mark.parametrize("workers", [(0, 2), (2, 1)])
def test_resuming_misses_no_sample_and_repeats_none(dataset, workers):
    whole = names(read(dataset, 12))
    before, after = workers
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4)), before)
    seen = names(itertools.islice(loader, 5))
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4)), after)
    resumed.load_state_dict(state)
    seen += names(itertools.islice(resumed, 7))
    assert resumed.state_dict()["samples"] == 48
    assert seen == whole


def test_ranks_and_batch_size_may_change_at_a_checkpoint(dataset):
    whole = names(read(dataset, 6))
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=6)), 0)
    seen = names(itertools.islice(loader, 2))
    ranks = []
    for rank in range(2):
        resumed = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=3), rank, 2), 0)
        resumed.load_state_dict(loader.state_dict())
        ranks.append(itertools.islice(resumed, 2))
    assert seen + names(itertools.chain.from_iterable(zip(*ranks))) == whole


def test_a_checkpoint_of_another_order_is_refused(dataset):
    state = Loader(ClipWindows(*dataset, LoaderConfig()), 0).state_dict()
    for options in ({"seed": 1}, {"split": "train"}, {"windows_per_visit": 1}):
        with pytest.raises(UserError, match="another order"):
            Loader(ClipWindows(*dataset, LoaderConfig(**options)), 0).load_state_dict(state)


def test_a_bounded_loader_ends_with_a_short_batch_and_starts_anew(dataset):
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4, epochs=1, windows_per_visit=2)), 2)
    first, second = list(loader), list(loader)
    assert [len(batch["clip_id"]) for batch in first] == [4, 4, 4, 4, 4, 2]
    assert names(first) == names(second)


def test_without_features_and_by_split(dataset):
    batch = read((dataset[0], None), 1, split="val", windows_per_visit=1)[0]
    assert "features" not in batch
    assert set(batch["clip_id"]) <= {"clip0008", "clip0009", "clip0010"}
    with pytest.raises(UserError, match="splits: train, val"):
        read(dataset, 1, split="test")
    with pytest.raises(UserError, match="with 21 frames"):
        read(dataset, 1, window=21)
    with pytest.warns(UserWarning, match="9 clips of .* under 19 frames"):
        assert {name for name, _ in names(read(dataset, 4, window=19))} == {"clip0009", "clip0010"}


def test_decoding_in_place_gives_opencv_s_pixels_or_says_why_not():
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    jpeg, place = encode_jpeg(noise), np.empty((SIZE, SIZE, 3), np.uint8)
    decode_jpeg_into(jpeg, place)
    assert np.array_equal(place, decode_jpeg(jpeg))
    for data, size in (
        (jpeg[: len(jpeg) // 2], SIZE),
        (b"no jpeg", SIZE),
        (jpeg, SIZE // 2),
        (jpeg, 2 * SIZE),
    ):
        with pytest.raises(ValueError, match=r"JPEG|jpeg|buffer"):
            decode_jpeg_into(data, np.empty((size, size, 3), np.uint8))


def test_a_mirrored_sample_is_the_mirrored_picture_with_its_own_names():
    rng = np.random.default_rng(0)
    images = {"frames": (2, 8, 8, 3), "identity": (8, 8, 3), "pose": (2, 8, 8, 3)}
    sample = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in images.items()}
    sample["landmarks"] = rng.uniform(0, 7, (2, 68, 2)).astype(np.float32)
    mirrored = mirror(sample)
    assert np.array_equal(mirrored["frames"][1, 2, 0], sample["frames"][1, 2, 7])
    right_eye_corner, left_eye_corner = 36, 45
    np.testing.assert_allclose(
        mirrored["landmarks"][:, right_eye_corner], sample["landmarks"][:, left_eye_corner] * [-1, 1] + [7, 0]
    )
    for name, value in mirror(mirrored).items():
        np.testing.assert_allclose(value, sample[name], atol=1e-5)


def test_mirroring_swaps_pairs_and_keeps_the_middle_of_the_face():
    assert sorted(MIRROR.tolist()) == list(range(68))
    assert (MIRROR[MIRROR] == np.arange(68)).all()
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert (np.flatnonzero(np.arange(68) == MIRROR) == middle).all()


def test_colours_change_by_what_was_drawn():
    image = np.full((1, 2, 2, 3), [100, 150, 200], np.uint8)
    assert np.array_equal(recolour(image, colour_matrix(1, 1, 1)), image)
    assert recolour(image, colour_matrix(2, 1, 1))[0, 0, 0].tolist() == [200, 255, 255]
    assert recolour(image, colour_matrix(1, 1, 0))[0, 0, 0].tolist() == [141, 141, 141]
    assert recolour(image, colour_matrix(1, 0, 1))[0, 0, 0].tolist() == [128, 128, 128]


def test_a_data_set_whose_mirror_and_colours_are_drawn_alike_for_all_images(dataset):
    plain, changed = read(dataset, 3), read(dataset, 3, flip=True, colour_jitter=0.5)
    for one, other in zip(plain, changed):
        assert one["clip_id"] == other["clip_id"]
        assert torch.equal(one["first_frame"], other["first_frame"])
        assert not torch.equal(one["frames"], other["frames"])
        assert torch.equal(other["frames"][:, 0], other["pose"][:, 1])


def shard_of(dataset: str, kind: str, number: int) -> Path:
    return Path(dataset) / kind / f"{kind}-{number:05d}-of-00004.parquet"


def flip_a_byte(path: Path) -> None:
    """Damage a JPEG in the first clip; the footer stays whole."""
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 300] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["clips", "features"])
def test_a_truncated_shard_is_named(damaged, kind):
    path = shard_of(damaged[kind == "features"], kind, 2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{path.name} cannot be read"):
        read(damaged, 1)
    with pytest.warns(UserWarning, match=f"{path.name} .* clips are left out"):
        batches = read(damaged, 6, damaged="skip")
    assert {name for name, _ in names(batches)} == {f"clip{n:04d}" for n in (0, 1, 2, 8, 9, 10)}


def test_a_clip_with_a_flipped_byte_is_named(damaged):
    path = shard_of(damaged[0], "clips", 2)
    flip_a_byte(path)
    for workers in (0, 2):
        with pytest.raises(UserError) as failure:
            read(damaged, 12, workers=workers)
        assert path.name in str(failure.value)
        assert "\n" not in str(failure.value)
    with pytest.warns(UserWarning, match=rf"{path.name} .* \(1 so far\)"):
        batches = read(damaged, 12, damaged="skip")
    assert all(len(batch["clip_id"]) == 4 for batch in batches)
    assert {name for name, _ in names(batches)} == {f"clip{n:04d}" for n in range(11) if n != 3}
    assert names(read(damaged, 12, damaged="skip", workers=2)) == names(batches)


def test_features_of_other_clips_are_refused(dataset, damaged, tmp_path):
    swapped = [[make_clip(n, 10 + n) for n in range(8)], [], [], []]
    _, features = make_dataset(tmp_path / "swapped", swapped)
    with pytest.raises(UserError, match=r"features-00000-of-00004.parquet holds features of other clips"):
        read((dataset[0], features), 1)
    description = Path(damaged[0]) / "dataset.json"
    description.write_text(description.read_text().replace('"plan_hash": "plan"', '"plan_hash": "new"'))
    with pytest.raises(UserError, match=r"expected fingerprint and plan .*new.*, found .*plan"):
        read(damaged, 1)
    with pytest.raises(UserError, match="has the features logfbank: name one of them, not mel"):
        read(dataset, 1, feature="mel")


def test_features_shorter_than_their_clip_are_refused(tmp_path):
    clips, _ = make_dataset(tmp_path / "long", [[make_clip(0, 12)]])
    _, features = make_dataset(tmp_path / "short", [[make_clip(0, 11)]])
    with pytest.raises(UserError, match="11 vectors for the 12 frames of clip clip0000"):
        read((clips, features), 1)


def test_the_chain_from_a_checkpoint_to_a_batch(dataset, tmp_path):
    """A random AV-HuBERT of the published layout -> feature shards -> a batch that holds its numbers."""
    checkpoint = write_tiny_checkpoint(tmp_path / "tiny.pt")
    store = Store(tmp_path / "features")
    config = ExtractConfig("avhubert", (2, None))
    work = ExtractStage(dataset[0], store.uri, "f", config, (("avhubert-base", str(checkpoint)),), "cpu")
    for shard in range(4):
        work.process(shard, Context())
    Dataset("features", "made", {"config": {"clips": "clips"}}, "f", "plan", 4, complete=True).save(store)

    stored = {clip: columns["layer2"] for clip, columns in read_features(store.uri)}
    batch = read((dataset[0], store.uri), 1, feature="layer2", context=1)[0]
    assert batch["features"].abs().max() > 0
    for name, first, features in zip(batch["clip_id"], batch["first_frame"], batch["features"]):
        np.testing.assert_array_equal(
            features[:, 0].numpy(), stored[name][first : first + 5].astype(np.float32)
        )


@pytest.fixture
def bucket(dataset: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The data set in an object store on this machine."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    options = f"?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1&allow_bucket_creation=true"
    store, _ = fs.FileSystem.from_uri(f"s3://shards/{options}")
    store.create_dir("shards")
    fs.copy_files(str(Path(dataset[0]).parent), "shards/made", destination_filesystem=store)
    yield f"s3://shards/made/clips{options}", f"s3://shards/made/features{options}"
    server.stop()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_object_store_gives_the_same_batches(dataset, bucket, workers):
    for one, other in zip(read(dataset, 6), read(bucket, 6, workers=workers)):
        assert one["clip_id"] == other["clip_id"]
        assert all(torch.equal(one[name], other[name]) for name in one if name != "clip_id")
