"""Pairing of outputs with references and audio: names, lists, column orders, and what is refused."""

from pathlib import Path

import pytest

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_eval.methods import GROUND_TRUTH, KNOWN_METHODS, Method, MethodType, baselines, read_methods
from syncdiff_eval.pairing import pair_by_list, pair_by_name
from syncdiff_eval.scoring import ScoringError
from syncdiff_eval.tasks import list_tasks, unmatched_outputs


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_by_name_across_suffixes_and_folders(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "s1/a.mpg", "s2/a.mpg", "b.mp4", "b.wav", "notes.txt")
    folder = tree(tmp_path / "out", "s1/a.mp4", "b.mp4", "b.avi", "unknown.mp4")
    pairing = pair_by_name(reference)
    assert [pair.clip for pair in pairing.pairs] == ["b", "s1/a", "s2/a"]
    assert pairing.setting == "own-audio"
    method = Method("m", MethodType.OTHER, folder=folder)
    ambiguous, found, missing = list_tasks([method], pairing)
    assert found.output() == folder / "s1/a.mp4"
    for task, reason in ((missing, Reason.MISSING_OUTPUT), (ambiguous, Reason.AMBIGUOUS_OUTPUT)):
        with pytest.raises(ScoringError) as refused:
            task.output()
        assert refused.value.reason == reason
    assert unmatched_outputs(method, pairing) == 1


def test_same_name_twice_among_references_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.avi, a\.mp4"):
        pair_by_name(tree(tmp_path, "a.mp4", "a.avi"))


def test_csv(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "b.mp4")
    listed = tmp_path / "pairs.csv"
    listed.write_text("video,audio,output\na.mp4,b.mp4,x.mp4\nb,a,y.v2\n")
    pairing = pair_by_list(reference, listed, "csv")
    assert pairing.setting == "crossed-audio"
    assert [(pair.clip, pair.video, pair.audio) for pair in pairing.pairs] == [
        ("x", "a.mp4", "b.mp4"),
        ("y.v2", "b.mp4", "a.mp4"),
    ]


def test_a_sound_file_of_the_same_name_is_own_audio(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "a.wav")
    (tmp_path / "pairs.csv").write_text("video,audio,output\na.mp4,a.wav,a\n")
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    assert pairing.setting == "own-audio"
    assert pairing.pairs[0].audio == "a.wav"


def test_wav2lips_two_column_orders(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "s/1.mp4", "s/2.mp4")
    (tmp_path / "list.txt").write_text("s/1 s/2\n")
    lrs = pair_by_list(reference, tmp_path / "list.txt", "wav2lip-lrs").pairs[0]
    synced = pair_by_list(reference, tmp_path / "list.txt", "wav2lip-resynced").pairs[0]
    assert (lrs.clip, lrs.video, lrs.audio) == ("0", "s/2.mp4", "s/1.mp4")
    assert (synced.clip, synced.video, synced.audio) == ("0", "s/1.mp4", "s/2.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b\n", "header line with the column video, audio, output"),
        ("video,audio,output\na,a,x\na,b,y\n", "mixes 1 pairs with own audio and 1"),
        ("video,audio,output\na,b,x\nb,a,x\n", "'x' to two pairs"),
        ("video,audio,output\nc,a,x\n", "names 'c'"),
        ("video,audio,output\n", "lists no pair"),
        ("video,audio,output\na,b\n", "expected a video and an output in every row"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "b.mp4")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        pair_by_list(reference, tmp_path / "pairs.csv", "csv")


def test_baselines_take_the_audio_they_are_for(tmp_path: Path) -> None:
    pairing = pair_by_name(tree(tmp_path, "a.mp4", "b.mp4", "c.mp4"))
    by_method = {
        method.name: list_tasks([method], pairing)
        for method in baselines(frozen=True, audio_shift=(-3,), other_audio=True)
    }
    assert [task.audio for task in by_method["other_audio"]] == ["b.mp4", "c.mp4", "a.mp4"]
    assert all(task.crossed for task in by_method["other_audio"])
    assert [task.audio for task in by_method["frozen_first_frame"]] == ["a.mp4", "b.mp4", "c.mp4"]
    assert by_method["audio_shift_-3"][0].baseline.audio_shift == -3
    assert not by_method["ground_truth"][0].crossed


def test_links_are_followed_and_a_broken_link_is_still_a_clip(tmp_path: Path) -> None:
    store = tree(tmp_path / "store", "a.b c.mp4", ".hidden.mp4")
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref/s1").symlink_to(store)
    (tmp_path / "ref/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert [pair.clip for pair in pair_by_name(tmp_path / "ref").pairs] == ["gone", "s1/a.b c"]


def test_lists_may_spell_one_path_in_several_ways(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.b.mp4", "ü.mp4")
    text = "\ufeffvideo,audio,output\na.b.mp4,./a.b.mp4,./x.y.mp4\nü,ü,ü\n"
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    assert [(p.clip, p.video, p.audio) for p in pairing.pairs] == [
        ("x.y", "a.b.mp4", "a.b.mp4"),
        ("ü", "ü.mp4", "ü.mp4"),
    ]


def test_a_list_that_is_not_text_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes(b"video,audio,output\n\xff,a,x\n")
    with pytest.raises(UserError, match="UTF-8"):
        pair_by_list(tree(tmp_path / "ref", "a.mp4"), tmp_path / "pairs.csv", "csv")


def test_other_audio_is_another_videos_where_a_list_uses_one_video_twice(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "b.mp4", "silence.wav")
    (tmp_path / "pairs.csv").write_text("video,audio,output\na,b,x1\na,silence,x2\nb,silence,x3\n")
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    (other,) = (method for method in baselines(False, (), True) if method.name == "other_audio")
    assert [task.audio for task in list_tasks([other], pairing)] == ["b.mp4", "b.mp4", "a.mp4"]
    with pytest.raises(UserError, match="two videos"):
        list_tasks([other], pair_by_name(tree(tmp_path / "one", "a.mp4")))


def test_a_shift_asked_for_twice_is_one_row() -> None:
    assert [method.name for method in baselines(False, (3, 3), False)] == ["ground_truth", "audio_shift_+3"]


def test_crossed_pairs_keep_the_ground_truths_own_audio(tmp_path: Path) -> None:
    """Real video is the anchor with its own sound; the frozen frame is driven like the methods."""
    reference = tree(tmp_path / "ref", "a.mp4", "b.mp4")
    (tmp_path / "pairs.csv").write_text("video,audio,output\na,b,x\nb,a,y\n")
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    assert [task.audio for task in list_tasks([GROUND_TRUTH], pairing)] == ["a.mp4", "b.mp4"]
    frozen = baselines(True, (), False)[-1]
    assert [task.audio for task in list_tasks([frozen], pairing)] == ["b.mp4", "a.mp4"]


def test_registry_types_and_cites(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    registry = tmp_path / "methods.yaml"
    registry.write_text(
        "methods:\n- {name: wav2lip, type: GAN, citation: Prajwal 2020}\n- {name: x, type: diffusion, folder: out}\n"
    )
    methods = {method.name: method for method in read_methods((f"wav2lip={tmp_path}/out",), registry)}
    assert methods["wav2lip"].type is MethodType.GAN
    assert methods["wav2lip"].citation == "Prajwal 2020"
    assert methods["x"].folder == tmp_path / "out"


def test_methods_are_in_the_order_given(tmp_path: Path) -> None:
    """Whatever the order in the registry: reports that are joined in that order are then those of one run."""
    given = ("wav2lip", "unknown", "latentsync")
    methods = read_methods(tuple(f"{name}={tmp_path}" for name in given), KNOWN_METHODS)
    assert tuple(method.name for method in methods) == given


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (("nofolder",), None, "NAME=DIR"),
        (("m=/does/not/exist",), None, "does not exist"),
        (("ground_truth=.",), None, "built-in baseline"),
        (("a=.", "a=.."), None, "'a' has two folders"),
        (("a|b=.",), None, "leave out"),
        (("a\nb=.",), None, "leave out"),
        ((), "methods: [{name: a, type: gan}, {name: a, type: other}]", "lists 'a' twice"),
        ((), "methods: [{name: a, type: reference}]", "gan, diffusion or other"),
        ((), "methods: [{name: a, type: magic}]", "gan, diffusion or other"),
        ((), "methods: [{name: a, typ: gan}]", "keys name, type"),
        ((), "other: 1", "one key"),
    ],
)
def test_methods_that_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], text: str | None, message: str
) -> None:
    registry = None
    if text is not None:
        registry = tmp_path / "methods.yaml"
        registry.write_text(text)
    with pytest.raises(UserError, match=message):
        read_methods(arguments, registry)
