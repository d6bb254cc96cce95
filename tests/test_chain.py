"""The whole data chain as a stranger runs it: generated videos, clips, AV-HuBERT features, one training batch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import ROOT, contents
from tiny_avhubert import TINY, write_tiny_checkpoint

from syncdiff_data.audit import audit
from syncdiff_data.cli import RayOptions
from syncdiff_data.clips import ClipConfig
from syncdiff_data.demo import LIST_NAME, make_talkers
from syncdiff_data.faces import FaceConfig
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.records import UserError
from syncdiff_data.shards import read_clips, read_features
from syncdiff_data.shards.validate import validate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pipelines"))
import extract_features
import preprocess

RAY = RayOptions(workers=2)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """A folder with videos/, clips/ and features/ of three generated talkers."""
    root = tmp_path_factory.mktemp("chain")
    make_talkers(root / "videos", num_clips=3, seconds=1.0)
    clips = ClipConfig(faces=FaceConfig(crop_size=128))
    preprocess.main(
        preprocess.Options(
            source="folder",
            root=root / "videos" / LIST_NAME,
            out=str(root / "clips"),
            shard_size=2,
            clips=clips,
            ray=RAY,
        )
    )
    write_tiny_checkpoint(root / "tiny.pt")
    extract_features.main(
        extract_features.Options(
            clips=str(root / "clips"),
            encoder="avhubert",
            modality="av",
            layers="2,final",
            out=str(root / "features"),
            weights=(f"avhubert-base={root / 'tiny.pt'}",),
            ray=RAY,
        )
    )
    return root


def test_every_talker_is_one_clip_and_everything_is_valid(chain: Path) -> None:
    clips = list(read_clips(chain / "clips"))
    assert [clip.num_frames for clip in clips] == [25, 25, 25]
    assert all(clip.face.shape == (25, 128, 128, 3) and clip.mouth is not None for clip in clips)
    assert validate(chain / "clips") == []
    assert validate(chain / "features", chain / "clips") == []


def test_features_lie_beside_their_clips(chain: Path) -> None:
    pairs = zip(read_clips(chain / "clips"), read_features(chain / "features"), strict=True)
    for clip, (clip_id, columns) in pairs:
        assert clip_id == clip.clip_id
        assert {name: values.shape for name, values in columns.items()} == {
            "layer2": (25, TINY.width),
            "final": (25, TINY.width),
        }


def test_a_training_batch_comes_out(chain: Path) -> None:
    config = LoaderConfig(batch_size=2, window=5, context=3, feature="layer2")
    loader = Loader(ClipWindows(chain / "clips", chain / "features", config), workers=0)
    batch = next(iter(loader))
    assert batch["frames"].shape == (2, 5, 3, 128, 128)
    assert batch["features"].shape == (2, 5, 3, TINY.width)
    assert batch["identity"].shape == (2, 3, 128, 128)


def test_crops_show_the_frames_they_claim(chain: Path) -> None:
    assert list(audit(chain / "clips", chain / "videos", clips=3)) == []


def test_a_crop_of_another_frame_is_seen(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(dataset: object, wanted: int) -> list:
        clips = list(read_clips(chain / "clips"))
        for clip in clips:
            object.__setattr__(clip, "source_frame", np.roll(clip.source_frame, 5))
        return clips

    monkeypatch.setattr("syncdiff_data.audit.spread_clips", shifted)
    problems = list(audit(chain / "clips", chain / "videos", clips=3))
    assert any("does not show frame" in problem for problem in problems)


def test_video_features_need_mouth_crops(chain: Path, tmp_path: Path, ray_session: None) -> None:
    preprocess.main(
        preprocess.Options(
            source="folder",
            root=chain / "videos" / LIST_NAME,
            out=str(tmp_path / "clips"),
            limit=1,
            clips=ClipConfig(mouth=False),
            ray=RAY,
        )
    )
    options = extract_features.Options(
        clips=str(tmp_path / "clips"),
        encoder="avhubert",
        modality="video",
        out=str(tmp_path / "features"),
        ray=RAY,
    )
    with pytest.raises(UserError, match="--no-mouth"):
        extract_features.main(options)


def test_weights_that_are_not_here_are_named_with_the_command(
    chain: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = extract_features.Options(
        clips=str(chain / "clips"), encoder="avhubert", out=str(tmp_path / "features")
    )
    with pytest.raises(UserError, match="syncdiff_data weights fetch avhubert-base"):
        extract_features.main(options)
    assert not (tmp_path / "features").exists()


def extract_golden(chain: Path, shared: Path, layout: str, out: Path, workers: int) -> None:
    extract_features.main(
        extract_features.Options(
            clips=str(chain / "clips"),
            encoder="avhubert",
            modality="av",
            layers="1,final",
            out=str(out),
            weights=(f"avhubert-base={shared / 'golden' / f'tiny_{layout}.pt'}",),
            ray=RayOptions(workers=workers),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["plain", "fairseq", "fp16", "seq2seq"])
def test_every_published_layout_gives_the_same_bytes_on_one_worker_and_two(
    chain: Path, shared: Path, tmp_path: Path, layout: str
) -> None:
    for workers in (1, 2):
        extract_golden(chain, shared, layout, tmp_path / str(workers), workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert validate(tmp_path / "1", chain / "clips") == []


@pytest.mark.slow
def test_features_are_the_same_bytes_after_a_kill(chain: Path, shared: Path, tmp_path: Path) -> None:
    extract_golden(chain, shared, "plain", tmp_path / "whole", 2)
    line = [sys.executable, str(ROOT / "pipelines" / "extract_features.py"), "--encoder", "avhubert"]
    line += ["--clips", str(chain / "clips"), "--out", str(tmp_path / "killed"), "--modality", "av"]
    line += ["--layers", "1,final", "--workers", "1"]
    line += ["--weights", f"avhubert-base={shared / 'golden' / 'tiny_plain.pt'}"]
    run = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL)
    while run.poll() is None and not list(tmp_path.glob("killed/features/*.parquet")):
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert len(list(tmp_path.glob("killed/features/*.parquet"))) == 1
    extract_golden(chain, shared, "plain", tmp_path / "killed", 2)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
