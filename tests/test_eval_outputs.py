"""Outputs found under the names that methods give them, and what is said of a folder before it is scored."""

import unicodedata
from pathlib import Path

import pytest
from runs import pipeline

from syncdiff_data.cli import RayOptions
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_eval.methods import KNOWN_METHODS, Method, MethodType, read_methods
from syncdiff_eval.outputs import Outputs, describe_outputs, find_outputs, match_outputs
from syncdiff_eval.pairing import Pair, Pairing, pair_by_list, pair_by_name
from syncdiff_eval.scoring import ScoringError
from syncdiff_eval.tasks import list_tasks


def own(*clips: str) -> Pairing:
    """References with their own audio."""
    return Pairing(
        "own-audio", tuple(Pair(clip, f"{clip}.mpg", f"{clip}.mpg") for clip in clips), frozenset(clips)
    )


def crossed(*pairs: tuple[str, str, str], others: str = "") -> Pairing:
    """(output, video, audio); others: further references."""
    names = frozenset([*others.split(), *(video for _, video, _ in pairs)])
    return Pairing("crossed-audio", tuple(Pair(clip, f"{v}.mp4", f"{a}.wav") for clip, v, a in pairs), names)


def match(pairing: Pairing, *names: str, template: str | None = None) -> Outputs:
    """What of the files of these names, .mp4 where a name has no suffix, is whose output."""
    found: dict[str, list[str]] = {}
    for name in names:
        path = Path(name)
        found.setdefault(str(path.with_suffix("")), []).append(name if path.suffix else f"{name}.mp4")
    return match_outputs(found, pairing, Method("wav2lip", MethodType.GAN, template=template))


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


USUAL = "{0} {0}_out {0}_output {0}_result {0}_dub {0}_dubbed {0}_synced {0}_generated {0}_wav2lip {0}__{0} {0}_{0}"


@pytest.mark.parametrize("name", [*USUAL.split(), "{0}/result", "{0}/output", "{0}/out", "{0}/{0}"])
def test_usual_names(name: str) -> None:
    outputs = match(own("a", "b"), name.format("a"), name.format("b"))
    assert outputs.files == {clip: (f"{name.format(clip)}.mp4",) for clip in "ab"}
    assert (outputs.missing, outputs.ambiguous, outputs.unmatched) == ([], [], ())


@pytest.mark.parametrize("name", ["a_x", "aout", "out_a", "a_out_out", "x/a", "a/x", "b_a", "A_out"])
def test_other_names_are_no_output(name: str) -> None:
    assert match(own("a", "b"), name).unmatched == (f"{name}.mp4",)


def test_names_below_folders() -> None:
    pairing = own("s1/a", "s2/a")
    outputs = match(pairing, "s1/a_out", "s2/a/result", "a_out")
    assert outputs.files == {"s1/a": ("s1/a_out.mp4",), "s2/a": ("s2/a/result.mp4",)}
    assert outputs.unmatched == ("a_out.mp4",)


def test_the_own_name_wins() -> None:
    outputs = match(own("a"), "a", "a_out", "a/result", "a__a")
    assert outputs.files == {"a": ("a.mp4",)}
    assert len(outputs.unmatched) == 3


@pytest.mark.parametrize(
    "names", [("a_out", "a_result"), ("a_out.mp4", "a_out.mkv"), ("a.mp4", "a.mkv", "a_out")]
)
def test_of_two_files_none_is_chosen(names: tuple[str, ...]) -> None:
    outputs = match(own("a", "b"), *names, "b_out")
    assert outputs.ambiguous == ["a"]
    assert len(outputs.files["a"]) == 2
    assert outputs.files["b"] == ("b_out.mp4",)


def test_a_name_that_begins_like_another() -> None:
    """What bears the name of a reference is that reference's, and never another's under a usual name."""
    both = own("a", "a_out", "a_a")
    assert match(both, "a", "a_out", "a_a").files == {c: (f"{c}.mp4",) for c in ("a", "a_out", "a_a")}
    assert match(both, "a_out", "a_a").missing == ["a"]
    assert match(both, "a_result", "a_out_result").files["a_out"] == ("a_out_result.mp4",)
    listed = crossed(("x", "a", "b"), others="a a_b b")
    assert match(listed, "a_b").missing == ["x"]


def test_video_and_audio_must_fit_the_pair() -> None:
    pairing = crossed(("0", "a", "b"), ("1", "b", "c"))
    assert match(pairing, "a__b", "b__c").files == {"0": ("a__b.mp4",), "1": ("b__c.mp4",)}
    outputs = match(pairing, "a_b", "b_a", "a_a")
    assert (outputs.files["0"], outputs.missing) == (("a_b.mp4",), ["1"])
    assert outputs.unmatched == ("a_a.mp4", "b_a.mp4")


def test_a_file_that_two_pairs_may_claim_is_neithers() -> None:
    pairing = crossed(("x", "a", "b_c"), ("y", "a_b", "c"))
    outputs = match(pairing, "a_b_c")
    assert outputs.ambiguous == ["x", "y"]
    assert outputs.rivals == {"x": ("y",), "y": ("x",)}
    assert match(pairing, "a__b_c", "a_b__c").ambiguous == []


def test_a_contested_file_is_a_row_with_its_reason(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "a_b.mp4", "c.mp4", "b_c.mp4")
    (tmp_path / "pairs.csv").write_text("video,audio,output\na,b_c,x\na_b,c,y\n")
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    folder = tree(tmp_path / "out", "a_b_c.mp4")
    for task in list_tasks([Method("m", MethodType.GAN, folder=folder)], pairing):
        with pytest.raises(ScoringError, match=r"a_b_c\.mp4 may be of [xy] too") as refused:
            task.output()
        assert refused.value.reason == Reason.AMBIGUOUS_OUTPUT


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{video}_{audio}_dub.mp4", ("a_b_dub", "b_c_dub")),
        ("{video}_{audio}_dub", ("a_b_dub", "b_c_dub")),
        ("{clip}-{method}", ("0-wav2lip", "1-wav2lip")),
        ("v/{audio_name}/{{r}}", ("v/b/{r}", "v/c/{r}")),
    ],
)
def test_a_template_decides_alone(template: str, names: tuple[str, str]) -> None:
    outputs = match(crossed(("0", "a", "b"), ("1", "b", "c")), *names, "0", "1_out", template=template)
    assert outputs.files == {"0": (f"{names[0]}.mp4",), "1": (f"{names[1]}.mp4",)}
    assert outputs.unmatched == ("0.mp4", "1_out.mp4")


def test_a_template_tells_names_apart_that_read_in_two_ways() -> None:
    pairing = own("a", "a_out")
    assert match(pairing, "a_out", "a_out_out").missing == ["a"]
    outputs = match(pairing, "a_out", "a_out_out", template="{video}_out")
    assert outputs.files == {"a": ("a_out.mp4",), "a_out": ("a_out_out.mp4",)}


def test_the_suffix_of_a_template_chooses() -> None:
    assert match(own("a"), "a_x.mp4", "a_x.avi", template="{video}_x.avi").files == {"a": ("a_x.avi",)}
    assert match(own("a"), "a_x.mp4", "a_x.avi", template="{video}_x").ambiguous == ["a"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{video", "does not read"),
        ("{speaker}.mp4", "may hold {clip}, {video}, {audio}"),
        ("{video.__class__}", "nothing else in braces"),
        ("{video!r}", "nothing else in braces"),
        ("{video:>99}", "nothing else in braces"),
        ("{}", "nothing else in braces"),
        ("result.mp4", "'a' and 'b' the same output 'result.mp4'"),
    ],
)
def test_templates_that_are_refused(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        match(own("a", "b"), "a", template=template)


def test_templates_of_the_command_line_and_the_registry(tmp_path: Path) -> None:
    tree(tmp_path, "x/a_x.mp4")
    registry = tmp_path / "methods.yaml"
    registry.write_text(
        "methods: [{name: x, type: gan, folder: x, template: '{video}_x'}, {name: y, type: gan}]\n"
    )
    (x,) = read_methods((), registry)
    assert find_outputs(x, own("a")).files == {"a": ("a_x.mp4",)}
    y = read_methods((f"y={tmp_path}/x",), registry, ("y={audio}_x=1",))[-1]
    assert (y.template, y.type) == ("{audio}_x=1", MethodType.GAN)
    for wrong, message in (("y", "NAME=TEMPLATE"), ("y={video}", "no folder"), ("z={video}", "no folder")):
        with pytest.raises(UserError, match=message):
            read_methods((), registry, (wrong,))


def test_a_method_is_known_in_other_spellings(tmp_path: Path) -> None:
    (method,) = read_methods((f"Wav2Lip + GAN={tmp_path}",), KNOWN_METHODS)
    assert (method.name, method.type) == ("Wav2Lip + GAN", MethodType.GAN)
    assert "visual discriminator" in (method.citation or "")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "clip",
    ["-59cJcC2HJY_NA_111", "-a/-b", "Zoë", "<img src=x onerror=alert(1)>", "[red]a", "{video}", "a.b", "a b"],
)
def test_difficult_names(tmp_path: Path, clip: str, form: str) -> None:
    reference = tree(tmp_path / "ref", f"{clip}.mp4")
    folder = tree(tmp_path / "-out", unicodedata.normalize(form, f"{clip}_out.mp4"))  # type: ignore[arg-type]
    (method,) = read_methods((f"-m={folder}",), None)
    (task,) = list_tasks([method], pair_by_name(reference))
    assert task.output() == folder / unicodedata.normalize(form, f"{clip}_out.mp4")  # type: ignore[arg-type]
    assert describe_outputs([method], pair_by_name(reference)) == [
        "-m: outputs of 1 of 1 reference (1 as {clip}_out)"
    ]


def test_a_folder_is_described_before_it_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pipeline("benchmark")

    def no_ray(_: RayOptions) -> None:
        raise InterruptedError("scoring begins")

    monkeypatch.setattr(module, "ray_session", no_ray)
    reference = tree(tmp_path / "ref", *(f"r{i}.mp4" for i in range(9)), "-59.mp4", "two\nlines.mp4")
    folder = tree(tmp_path / "m", "r0.mp4", "r1_out.mp4", "r2_out.mp4", "r2_dub.mp4", "x.mp4", "<b>.mp4")
    named = tree(tmp_path / "n", *(path.name for path in reference.iterdir()))
    with pytest.raises(InterruptedError):
        module.main(module.Options(reference, tmp_path / "report", method=(f"m={folder}", f"n={named}")))
    assert capsys.readouterr().err.splitlines() == [
        "m: outputs of 2 of 11 references (1 as {clip}, 1 as {clip}_out)",
        "  no output: 8 references: '-59', 'r3', 'r4', 'r5', 'r6' and 3 more",
        "  ambiguous, so none is scored: 1 reference: 'r2', by the files 'r2_dub.mp4', 'r2_out.mp4'; "
        "--output-template m=TEMPLATE tells which",
        "  of no reference: 2 files: '<b>.mp4', 'x.mp4'",
        "n: outputs of 11 of 11 references",
    ]


def test_line_ends_in_names_stay_on_their_line(tmp_path: Path) -> None:
    reference = tree(tmp_path / "ref", "a.mp4", "b\nc\x1b[2J.mp4")
    method = Method("m", MethodType.GAN, folder=tree(tmp_path / "out", "a.mp4"))
    assert (
        describe_outputs([method], pair_by_name(reference))[1] == r"  no output: 1 reference: 'b\nc\x1b[2J'"
    )


def test_a_folder_without_an_output_says_what_it_wants(tmp_path: Path) -> None:
    method = Method("m", MethodType.GAN, folder=tree(tmp_path, "x.mp4"), template="{video}_dub.avi")
    with pytest.raises(UserError, match=r"1 media files.*wants a_dub\.avi or the like.*--output-template m="):
        find_outputs(method, own("a"))


def test_published_methods_pair(shared: Path) -> None:
    root = shared / "methods"
    folders = [path for path in root.iterdir() if path.name != "reference"]
    methods = read_methods(tuple(f"{path.name}={path}" for path in folders), KNOWN_METHODS)
    pairing = pair_by_name(root / "reference")
    assert (len(methods), len(pairing.pairs)) == (7, 11)
    for method in methods:
        outputs = find_outputs(method, pairing)
        assert (outputs.missing, outputs.ambiguous, outputs.unmatched) == ([], [], ())
