"""Kind 2: a stream is opened where it is used, and only there it can fail."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from stub_faces import CONFIG, ColourBackend, write_colour
from tiny_models import tiny_generator

from syncdiff_data.clips import ClipExtractor
from syncdiff_data.faces import mean_face
from syncdiff_data.media import AudioTrack, Video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import Clip, MediaError, Reject, Source
from syncdiff_eval.methods import Baseline
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.scoring import Reference, Scorer, ScoreRequest, score_clip
from syncdiff_eval.videos import frames, read_facts
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair

FRAMES = 12


def write_with_sound(path: Path, what: str) -> Path:
    """Gray pictures, in which the stub of the tests finds a face; an audio track that is `damaged` (packets of random
    bytes) or `empty` (no packet)."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=16_000)
        for _ in range(FRAMES):
            picture = np.full((64, 64, 3), 128, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        for number in range(8 if what == "damaged" else 0):
            packet = av.Packet(rng.integers(0, 256, 200, dtype=np.uint8).tobytes())
            packet.stream, packet.time_base = sound, Fraction(1, 16_000)
            packet.pts = packet.dts = number * 1024
            packet.duration = 1024
            container.mux(packet)
    return path


@pytest.fixture(params=["damaged", "empty"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = write_with_sound(tmp_path / f"{request.param}.mkv", request.param)
    with pytest.raises(MediaError):
        AudioTrack(path)
    assert Video(path).num_frames == FRAMES
    return path


def test_kind_2_a_video_is_dubbed_whatever_its_own_sound_is(odd: Path, tmp_path: Path) -> None:
    speech = write_colour(tmp_path / "speech.mp4", "face", 20)
    dubber = Dubber(tiny_generator(), DubConfig(backend=CONFIG.faces.backend, min_face_px=0))
    assert dubber.dub(DubPair(odd, speech, tmp_path / "dub.mp4")) is None
    assert Video(tmp_path / "dub.mp4").num_frames == FRAMES


def test_kind_2_an_output_is_scored_by_its_pictures_where_the_driving_sound_is_heard(odd: Path) -> None:
    times = np.array([time for time, _ in frames(odd)])
    reference = Reference(read_facts(odd), FRAMES, times[0], None, times)
    request = ScoreRequest(
        reference_path=odd,
        reference=reference,
        output=odd,
        baseline=Baseline(),
        audio=np.zeros(FRAMES * 640, np.int16),
        audio_s=FRAMES / 25,
        crossed=False,
    )
    assert score_clip(request, Scorer(SYNCDIFF, {}, {}, None)).num_frames == FRAMES


def test_kind_2_sources_without_sound_are_kept_where_that_is_allowed(tmp_path: Path) -> None:
    """An empty track is silence; a damaged one is a fault of the source, since its sound is wanted."""
    config = replace(CONFIG, allow_no_audio=True)
    backend = ColourBackend(config.faces, "cpu")
    found = {}
    for what in ("empty", "damaged"):
        path = write_with_sound(tmp_path / f"{what}.mkv", what)
        extractor = ClipExtractor(tmp_path, "test", config, backend, mean_face())
        (found[what],) = extractor.extract_clips(Source(path.name, path.stat().st_size))
    assert isinstance(found["empty"], Clip)
    assert not found["empty"].audio.any()
    assert isinstance(found["damaged"], Reject)
    assert found["damaged"].reason is Reason.UNREADABLE


def test_kind_2_the_reported_files(shared: Path) -> None:
    for name in ("damaged_sound.mkv", "empty_sound.mkv", "unknown_codec.mp4"):
        video = Video(shared / "faults/own_sound" / name)
        assert sum(1 for _ in video.frames()) == video.num_frames
