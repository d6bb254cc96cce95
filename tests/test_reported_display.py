"""Reported kinds of faults: colours of untagged pictures, tags and aspect that get lost."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from syncdiff_data.media import Video
from syncdiff_data.records import MediaError


@pytest.mark.parametrize(
    ("size", "tag", "read_as"),
    [((1280, 720), 2, 1), ((640, 360), 2, 5), ((1280, 720), 5, 5), ((640, 360), 1, 1)],
    ids=["untagged HD", "untagged SD", "HD tagged 601", "SD tagged 709"],
)
def test_kind_6_an_untagged_picture_has_the_matrix_that_players_assume(
    tmp_path: Path, size: tuple[int, int], tag: int, read_as: int
) -> None:
    green = np.zeros((size[1], size[0], 3), np.uint8)
    green[:] = (30, 200, 60)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        stream.options = {"crf": "5"}
        if tag != 2:
            stream.codec_context.colorspace = tag
        for i in range(3):
            picture = av.VideoFrame.from_ndarray(green, "rgb24").reformat(
                format="yuv420p", dst_colorspace=read_as, threads=1
            )
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    video = Video(path)
    assert video.display.matrix == tag
    error = next(video.frames()).astype(int) - green
    assert np.abs(error).max() <= 4


def test_kind_6_aspect_and_tags_are_carried(shared: Path) -> None:
    anamorphic = Video(shared / "faults/display/anamorphic_sar.mp4")
    assert anamorphic.display.sample_aspect_ratio != 1
    hlg = Video(shared / "faults/display/hdr_hlg.mov")
    assert (hlg.display.primaries, hlg.display.transfer) == (9, 18)
    assert Video(shared / "faults/display/hd_untagged.mp4").display.matrix == 2
    assert isinstance(anamorphic.display.sample_aspect_ratio, Fraction)


def test_colours_that_cannot_be_converted_are_refused(tmp_path: Path) -> None:
    """ICtCp, say: FFmpeg's swscale raises a bare OSError."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.colorspace = 14
        container.mux(stream.encode(av.VideoFrame(96, 64, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="matrix is number 14"):
        list(Video(path).frames())
