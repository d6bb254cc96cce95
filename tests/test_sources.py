"""Each adapter on a tree in its data set's real layout, the walk they share, and what wrong folders cause."""

import csv
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncdiff_data.records import Source, UserError
from syncdiff_data.sources import SOURCES, list_sources, source_root
from syncdiff_data.sources.adapter import media_files
from syncdiff_data.sources.layouts import GRID_WORDS, grid_sentence

TALK = "-bz_2cPx3QY"
PROGRAMME = "5535415699068794046"
LRS3_TEXT = "Text:  HELLO {}\nConf:  5\n\nWORD START END ASDSCORE\nHELLO 0.10 0.40 7.1\n"


def touch(root: Path, *paths: str, size: int = 3) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"v" * size)


def paths(sources: list[Source]) -> list[str]:
    return [source.path for source in sources]


@pytest.fixture
def lrs2(tmp_path: Path) -> Path:
    root = tmp_path / "mvlrs_v1"
    for number in range(1, 6):
        touch(root, f"main/{PROGRAMME}/0000{number}.mp4", size=number)
        (root / f"main/{PROGRAMME}/0000{number}.txt").write_text(f"Text:  CLIP {number}\nConf:  4\n")
    touch(root, f"pretrain/{PROGRAMME}/00001.mp4", f"pretrain/{PROGRAMME}/00007.mp4")
    (root / "train.txt").write_text(f"{PROGRAMME}/00001\n{PROGRAMME}/00002\n")
    (root / "val.txt").write_text(f"{PROGRAMME}/00003\r\n\r\n")
    (root / "test.txt").write_text(f"{PROGRAMME}/00004 NF\n{PROGRAMME}/00005 MV\n")
    (root / "pretrain.txt").write_text(f"{PROGRAMME}/00001\n{PROGRAMME}/00007\n")
    return root


@pytest.fixture
def lrs3(tmp_path: Path) -> Path:
    root = tmp_path / "lrs3"
    for split in ("pretrain", "trainval", "test"):
        for number in (1, 2):
            touch(root, f"{split}/{TALK}/0000{number}.mp4")
            (root / f"{split}/{TALK}/0000{number}.txt").write_text(LRS3_TEXT.format(number))
    return root


@pytest.fixture
def voxceleb2(tmp_path: Path) -> Path:
    root = tmp_path / "vox"
    touch(root, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev/mp4/id00015/0fijmz4vTVU/00001.mp4")
    touch(root, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "test/mp4/id00017/01dfn2spqyE/00001.mp4")
    return root


@pytest.fixture
def hdtf(tmp_path: Path) -> Path:
    root = tmp_path / "hdtf"
    touch(
        root,
        "RD_Radio10_000.mp4",
        "clips/WDA_BobCasey0_000.mp4",
        "clips/WDA_BobCasey0_001.mp4",
        "WRA_AnnWagner.mp4",
    )
    return root


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    root = tmp_path / "grid"
    touch(root, "s1/bbaf2n.mpg", "s1/swwzzs.mpg", "s2/bbaf2n.mpg", "s34/video/mpg_6000/PGIB9A.MPG")
    return root


def test_lrs2_splits_come_from_its_lists(lrs2: Path) -> None:
    sources = list_sources("lrs2", lrs2)
    assert [(s.path.split("/")[0], s.path[-9:-4], s.split) for s in sources] == [
        ("main", "00001", "train"),
        ("main", "00002", "train"),
        ("main", "00003", "val"),
        ("main", "00004", "test"),
        ("main", "00005", "test"),
        ("pretrain", "00001", "pretrain"),
        ("pretrain", "00007", "pretrain"),
    ]
    assert [s.size for s in sources[:5]] == [1, 2, 3, 4, 5]
    assert [s.text for s in sources] == [*(f"CLIP {n}" for n in range(1, 6)), None, None]
    for split in ("train", "val", "test", "pretrain"):
        assert list_sources("lrs2", lrs2, split) == [s for s in sources if s.split == split]


def test_lrs2_lists_may_lie_elsewhere(lrs2: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (lrs2 / "test.txt").rename(tmp_path / "lists" / "test.txt")
    with pytest.raises(UserError, match=r"split test of LRS2 needs its list .*test\.txt, which is not there"):
        list_sources("lrs2", lrs2, "test")
    assert len(list_sources("lrs2", lrs2, "test", lists=tmp_path / "lists")) == 2


def test_lrs2_without_lists_still_tells_pretrain_from_main(lrs2: Path) -> None:
    for name in ("train", "val", "test", "pretrain"):
        (lrs2 / f"{name}.txt").unlink()
    assert [s.split for s in list_sources("lrs2", lrs2)] == [None] * 5 + ["pretrain"] * 2
    assert len(list_sources("lrs2", lrs2, "pretrain")) == 2


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_lrs2_lists_as_windows_writes_them(lrs2: Path, codec: str) -> None:
    (lrs2 / "train.txt").write_text(f"{PROGRAMME}\\00001 \r\n \r\n{PROGRAMME}\\00002\r\n", encoding=codec)
    assert [s.path[-9:] for s in list_sources("lrs2", lrs2, "train")] == ["00001.mp4", "00002.mp4"]


def test_lrs2_clip_in_two_lists_is_refused(lrs2: Path) -> None:
    (lrs2 / "val.txt").write_text(f"{PROGRAMME}/00001\n{PROGRAMME}/00003\n")
    with pytest.raises(
        UserError, match=rf"val\.txt names 1 clips that train\.txt names too.* main/{PROGRAMME}/00001:"
    ):
        list_sources("lrs2", lrs2)
    assert len(list_sources("lrs2", lrs2, "val")) == 2


def test_lrs2_clip_of_two_suffixes_is_two_sources(lrs2: Path) -> None:
    """One of them was left out without a word."""
    touch(lrs2, f"main/{PROGRAMME}/00001.MP4")
    assert [s.path[-4:] for s in list_sources("lrs2", lrs2, "train")] == [".MP4", ".mp4", ".mp4"]


def test_lrs2_list_naming_absent_clips_is_refused(lrs2: Path) -> None:
    (lrs2 / f"main/{PROGRAMME}/00004.mp4").unlink()
    for split in ("test", None):
        with pytest.raises(UserError, match=rf"names 2 clips, of which 1 are .* main/{PROGRAMME}/00004"):
            list_sources("lrs2", lrs2, split)
    assert len(list_sources("lrs2", lrs2, "train")) == 2


def test_lrs2_with_main_alone_ignores_the_pretrain_list(lrs2: Path) -> None:
    (lrs2 / "pretrain").rename(lrs2.parent / "kept elsewhere")
    assert len(list_sources("lrs2", lrs2)) == 5


def test_lrs3_splits_talks_and_transcripts(lrs3: Path) -> None:
    sources = list_sources("lrs3", lrs3)
    assert paths(sources) == sorted(paths(sources))
    assert sources[0] == Source("pretrain/-bz_2cPx3QY/00001.mp4", 3, "pretrain", "-bz_2cPx3QY", "HELLO 1")
    assert list_sources("lrs3", lrs3, "test") == sources[2:4]
    assert list_sources("lrs3", lrs3, "trainval") == sources[4:]


def test_mouth_crops_made_in_an_lrs3_root_are_no_sources(
    lrs3: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(lrs3, "video/test/-bz_2cPx3QY/00001.mp4")
    assert len(list_sources("lrs3", lrs3)) == 6
    assert "1 media files" in caplog.text
    assert "video/test/-bz_2cPx3QY/00001.mp4" in caplog.text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, None),
        (b"", None),
        (b"Conf:  5\n", None),
        (b"Text:\n", None),
        (b"Text:  IT'S \xff BROKEN\n\x00\xfe", "IT'S � BROKEN"),
        ("Text: CAFÉ\r\nConf: 1".encode(), "CAFÉ"),
    ],
)
def test_transcripts_missing_and_broken(lrs3: Path, content: bytes | None, text: str | None) -> None:
    transcript = lrs3 / "test/-bz_2cPx3QY/00001.txt"
    transcript.unlink() if content is None else transcript.write_bytes(content)
    assert list_sources("lrs3", lrs3, "test")[0].text == text


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_transcripts_with_a_byte_order_mark(lrs3: Path, codec: str) -> None:
    """Their first line was not found, and the text left out."""
    (lrs3 / f"test/{TALK}/00001.txt").write_text("Text:  CAFÉ\r\nConf:  5\r\n", encoding=codec)
    assert [s.text for s in list_sources("lrs3", lrs3, "test")] == ["CAFÉ", "HELLO 2"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle", "huge"])
def test_what_only_bears_the_name_of_a_transcript(lrs3: Path, kind: str) -> None:
    path = lrs3 / f"test/{TALK}/00001.txt"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)  # holes
    assert [s.text for s in list_sources("lrs3", lrs3, "test")] == [None, "HELLO 2"]


def test_voxceleb2_base_names_repeat_across_speakers(voxceleb2: Path) -> None:
    sources = list_sources("voxceleb2", voxceleb2)
    assert [(s.path, s.split, s.speaker) for s in sources] == [
        ("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev", "id00012"),
        ("dev/mp4/id00015/0fijmz4vTVU/00001.mp4", "dev", "id00015"),
        ("test/mp4/id00017/01dfn2spqyE/00001.mp4", "test", "id00017"),
    ]
    assert list_sources("voxceleb2", voxceleb2, "dev") == sources[:2]
    assert [s.speaker for s in list_sources("voxceleb2", voxceleb2 / "dev" / "mp4")] == ["id00012", "id00015"]


def test_hdtf_speaker_is_the_listed_video(hdtf: Path) -> None:
    assert [(s.path, s.speaker) for s in list_sources("hdtf", hdtf)] == [
        ("RD_Radio10_000.mp4", "RD_Radio10"),
        ("WRA_AnnWagner.mp4", "WRA_AnnWagner"),
        ("clips/WDA_BobCasey0_000.mp4", "WDA_BobCasey0"),
        ("clips/WDA_BobCasey0_001.mp4", "WDA_BobCasey0"),
    ]


def test_grid_sentence_and_speaker(grid: Path) -> None:
    assert [(s.path, s.speaker, s.text) for s in list_sources("grid", grid)] == [
        ("s1/bbaf2n.mpg", "s1", "bin blue at f two now"),
        ("s1/swwzzs.mpg", "s1", "set white with z zero soon"),
        ("s2/bbaf2n.mpg", "s2", "bin blue at f two now"),
        ("s34/video/mpg_6000/PGIB9A.MPG", "s34", "place green in b nine again"),
    ]
    assert [s.speaker for s in list_sources("grid", grid / "s1")] == ["s1", "s1"]


def test_grid_root_of_one_speaker_under_any_name(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (grid / "s1").rename(grid / "grid_s1")
    assert [s.speaker for s in list_sources("grid", grid / "grid_s1")] == ["grid_s1", "grid_s1"]
    monkeypatch.chdir(grid / "grid_s1")
    assert [s.speaker for s in list_sources("grid", Path())] == ["grid_s1", "grid_s1"]


@given(st.tuples(*(st.sampled_from(sorted(words)) for words in GRID_WORDS)))
def test_every_grid_name_is_a_sentence_and_back(letters: tuple[str, ...]) -> None:
    words = grid_sentence(Source(f"s1/{''.join(letters)}.mpg", 1)).split()
    spelled = [
        {word: letter for letter, word in table.items()}[word] for table, word in zip(GRID_WORDS, words)
    ]
    assert tuple(spelled) == letters
    assert SOURCES["grid"].fits.fullmatch("".join(letters))


def test_grid_has_no_letter_w() -> None:
    assert not SOURCES["grid"].fits.fullmatch("bbaw2n")


def test_real_grid_speaker(shared: Path) -> None:
    sources = list_sources("grid", shared / "grid_s1")
    assert len(sources) == 260
    assert {s.speaker for s in sources} == {"grid_s1"}
    for source in sources:
        alignment = (shared / "grid_s1_align" / source.path).with_suffix(".align")
        spoken = [line.split()[2] for line in alignment.read_text().splitlines()]
        assert [word for word in spoken if word not in ("sil", "sp")] == (source.text or "").split()


def test_folder_takes_any_container_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "b.MP4", "a.mkv", "deep/er/ünïcode 名.mov", "with space.webm", "deep/empty.avi")
    touch(tmp_path, ".hidden.mp4", ".cache/x.mp4", "x.mp4.tmp", "notes.txt", "sound.wav", "._b.MP4")
    (tmp_path / "deep/empty.avi").write_bytes(b"")
    sources = list_sources("folder", tmp_path)
    assert paths(sources) == ["a.mkv", "b.MP4", "deep/empty.avi", "deep/er/ünïcode 名.mov", "with space.webm"]
    assert [s.size for s in sources] == [3, 3, 0, 3, 3]
    assert all((s.split, s.speaker, s.text) == (None, None, None) for s in sources)
    assert list_sources("folder", tmp_path, limit=2) == sources[:2]


def test_folder_knows_the_suffixes_of_old_phones_and_tapes(tmp_path: Path) -> None:
    names = ["a.3g2", "a.asf", "a.divx", "a.dv", "a.f4v", "a.mpe", "a.qt", "a.rm"]
    touch(tmp_path, *names, "a.mp4.part", "Thumbs.db")
    assert paths(list_sources("folder", tmp_path)) == names


def test_links_are_followed_but_no_folder_twice(tmp_path: Path) -> None:
    touch(tmp_path, "root/a/one.mp4", "outside/two.mp4")
    root = tmp_path / "root"
    (root / "a/up").symlink_to(root)
    (root / "0_alias_of_a").symlink_to(root / "a")
    (root / "b").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/back").symlink_to(root / "a")
    (root / "file.mp4").symlink_to(tmp_path / "outside/two.mp4")
    (root / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    expected = [("a/one.mp4", 3), ("b/two.mp4", 3), ("dangling.mp4", 0), ("file.mp4", 3)]
    assert [(s.path, s.size) for s in list_sources("folder", root)] == expected
    (tmp_path / "link to root").symlink_to(root)
    assert [(s.path, s.size) for s in list_sources("folder", tmp_path / "link to root")] == expected


def test_a_folder_named_like_a_video_is_entered(tmp_path: Path) -> None:
    touch(tmp_path, "take.mp4/part.mp4")
    assert paths(list_sources("folder", tmp_path)) == ["take.mp4/part.mp4"]


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "good.mp4")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"v")
    with pytest.raises(UserError, match="is not UTF-8: rename the file"):
        list_sources("folder", tmp_path)


def test_one_stat_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{n % 7}/{n}.mp4" for n in range(70)))
    stats = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **kw: stats.append(self) or stat(self, **kw))
    assert len(list(media_files(tmp_path))) == 70
    assert len(stats) == 8  # one per folder; the files' own come from os.scandir's entries


def write_csv(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_csv_of_paths(tmp_path: Path) -> None:
    touch(tmp_path, "lists/b.mp4", "lists/videos/a clip.mp4", "lists/no-suffix")
    rows = [
        ["videos/a clip.mp4", "train", "ann", "hello, world", "9"],
        ["./b.mp4", "test", "", "", ""],
        ["no-suffix", "", "", "", ""],
    ]
    root = write_csv(tmp_path / "lists/all.csv", ["path", "split", "speaker", "text", "score"], *rows)
    sources = list_sources("folder", root)
    assert sources == [
        Source("b.mp4", 3, "test"),
        Source("no-suffix", 3),
        Source("videos/a clip.mp4", 3, "train", "ann", "hello, world"),
    ]
    assert all((source_root(root) / s.path).is_file() for s in sources)
    assert list_sources("folder", root, "test") == sources[:1]
    with pytest.raises(UserError, match=r"no source of the split val: its splits are test, train\."):
        list_sources("folder", root, "val")


def test_csv_with_a_path_column_alone_and_a_byte_order_mark(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "list.csv").write_bytes("\ufeffpath\r\na.mp4\r\n".encode())
    assert list_sources("folder", tmp_path / "list.csv") == [Source("a.mp4", 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path\ngone.mp4\na.mp4\nlost.mp4\n", r"Of the 3 paths .*, 2 are not there.* first is gone\.mp4"),
        (b"path\na.mp4\n./a.mp4\n", r"1 are listed more than once.* a\.mp4"),
        (b"path\n/videos/a.mp4\n", r"1 are absolute or lead out .*: write them relative to the CSV"),
        (b"file,text\na.mp4,hello\n", r"needs a header line with the column path.*'file,text'"),
        (b"a.mp4\n", r"needs a header line"),
        (b"", r"needs a header line"),
        (b"path\n", r"names no source: add lines"),
        (b"path,text\na.mp4,hello, world\n", r"Line 2 of .* needs quotes"),
        (b"path,text\n,hello\n", r"Entry 1 of .* has no path"),
        (b"path\ncaf\xe9.mp4\n", r"cannot be read as a CSV in UTF-8"),
        (b'path\n"a.mp4\n', r"cannot be read as a CSV"),
    ],
)
def test_csv_faults(tmp_path: Path, content: bytes, message: str) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list_sources("folder", tmp_path / "list.csv")


@pytest.mark.parametrize("kind", SOURCES)
def test_missing_and_empty_roots(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent does not exist"):
        list_sources(kind, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"holds no {kind} clips: looked for .*; saw an empty folder\."):
        list_sources(kind, tmp_path / "empty")
    touch(tmp_path, "video.mp4")
    with pytest.raises(UserError, match="is a file, and --source"):
        list_sources(kind, tmp_path / "video.mp4")


@pytest.mark.parametrize("owner", ["lrs2", "lrs3", "voxceleb2", "hdtf", "grid"])
@pytest.mark.parametrize("asked", ["lrs2", "lrs3", "voxceleb2", "hdtf", "grid"])
def test_wrong_folder_names_the_adapter_that_fits(
    asked: str, owner: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(owner)
    if asked == owner:
        assert list_sources(asked, root)
        return
    with pytest.raises(UserError) as error:
        list_sources(asked, root)
    first = sorted(path.name for path in root.iterdir())[0]
    assert f"saw {first}" in str(error.value)
    assert f"It looks like {owner}: try --source {owner}." in str(error.value)


def test_root_one_folder_too_deep_or_too_high(lrs3: Path, lrs2: Path) -> None:
    with pytest.raises(UserError, match=rf"Try --root {lrs3}, the folder above"):
        list_sources("lrs3", lrs3 / "test")
    (lrs3.parent / "only").mkdir()
    lrs2.rename(lrs3.parent / "only" / "mvlrs_v1")
    with pytest.raises(UserError, match=r"Try --root .*only/mvlrs_v1, the folder below"):
        list_sources("lrs2", lrs3.parent / "only")


def test_a_folder_without_media_says_so(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.txt" for n in range(7)), "sub/x.json")
    with pytest.raises(
        UserError, match=r"saw 0\.txt, 1\.txt, .* and 3 more\. There is no media file in it\."
    ):
        list_sources("folder", tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lrs4", {}, "There is no source 'lrs4': choose one of folder, grid,"),
        (
            "lrs3",
            {"split": "train"},
            "--split train is unknown: --source lrs3 has the splits pretrain, trainval, test",
        ),
        ("grid", {"split": "train"}, "--source grid has no splits"),
        ("folder", {"split": "train"}, "has no splits: leave it out, or list the files in a CSV"),
        ("lrs3", {"limit": 0}, "--limit 0 leaves no source"),
        ("lrs3", {"lists": Path()}, "--lists means nothing to --source lrs3"),
        ("lrs2", {"lists": Path("absent")}, "--lists absent is not a folder"),
    ],
)
def test_options_that_cannot_be(kind: str, options: dict, message: str, lrs3: Path) -> None:
    with pytest.raises(UserError, match=message):
        list_sources(kind, lrs3, **options)


def test_a_split_that_is_not_there(lrs3: Path) -> None:
    (lrs3 / "test").rename(lrs3.parent / "test elsewhere")
    with pytest.raises(UserError, match=r"holds no lrs3 test clips: .* saw pretrain/, trainval/\."):
        list_sources("lrs3", lrs3, "test")


def test_what_cannot_be_a_root_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for root in (tmp_path / "circle", tmp_path / ("a" * 300), tmp_path / ("a/" * 3000)):
        with pytest.raises(UserError, match="does not exist"):
            list_sources("folder", root)
    with pytest.raises(UserError, match=r"saw circle\."):
        list_sources("hdtf", tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        list_sources("lrs2", tmp_path, lists=tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["a.mp4", "b.mp4", "a.mp4"], "1 are given twice, the first being a.mp4"),
        (["a.mp4", "/b.mp4"], "1 are absolute"),
        (["a/../../b.mp4"], "1 are absolute or lead out"),
    ],
)
def test_an_adapter_of_ones_own_names_files_of_the_root_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], fault: str
) -> None:
    module = types.ModuleType("shows")
    module.SHOWS = replace(SOURCES["hdtf"], find=lambda _: (Source(path, 1) for path in given))
    monkeypatch.setitem(sys.modules, "shows", module)
    with pytest.raises(UserError, match=fault):
        list_sources("shows:SHOWS", tmp_path)


def test_names_outside_the_layout_do_not_command_the_terminal(
    hdtf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(hdtf, "\x1b]0;owned\x07.mp4")
    list_sources("hdtf", hdtf)
    assert "owned" in caplog.text
    assert "\x1b" not in caplog.text
