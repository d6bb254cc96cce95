"""Kind 12: names that look the same pair, whatever their form of Unicode, and a leading dash is harmless."""

import unicodedata
from itertools import product
from pathlib import Path

import pytest

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.tables import formula_text, plain_cell
from syncdiff_eval.methods import Method, MethodType, read_methods
from syncdiff_eval.pairing import pair_by_list, pair_by_name
from syncdiff_eval.scoring import ScoringError
from syncdiff_eval.tasks import list_tasks, unmatched_outputs

NAME = "Zoë/señal"
FORMS = ("NFC", "NFD")


def form(name: str, text: str) -> str:
    return unicodedata.normalize(name, text)  # type: ignore[arg-type]


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(("ours", "theirs"), list(product(FORMS, FORMS)))
def test_kind_12_outputs_pair_in_any_form(tmp_path: Path, ours: str, theirs: str) -> None:
    reference = tree(tmp_path / "ref", form(ours, f"{NAME}.mpg"))
    method = Method("m", MethodType.OTHER, folder=tree(tmp_path / "out", form(theirs, f"{NAME}.mp4")))
    (task,) = list_tasks([method], pair_by_name(reference))
    assert task.output() == tmp_path / "out" / form(theirs, f"{NAME}.mp4")
    assert (reference / task.video).is_file()
    assert unmatched_outputs(method, pair_by_name(reference)) == 0


@pytest.mark.parametrize(("ours", "theirs"), list(product(FORMS, FORMS)))
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_kind_12_lists_name_files_in_any_form(tmp_path: Path, ours: str, theirs: str, suffix: str) -> None:
    reference = tree(tmp_path / "ref", form(ours, f"{NAME}.mp4"), form(ours, f"{NAME}.wav"))
    listed = form(theirs, f"{NAME}{suffix}")
    (tmp_path / "pairs.csv").write_text(
        f"video,audio,output\n{listed},{form(theirs, NAME)}.wav,{listed}\n", "utf-8"
    )
    pairing = pair_by_list(reference, tmp_path / "pairs.csv", "csv")
    assert pairing.setting == "own-audio"
    (pair,) = pairing.pairs
    assert (reference / pair.video).is_file()
    assert (reference / pair.audio).is_file()
    method = Method("m", MethodType.OTHER, folder=reference)
    assert list_tasks([method], pairing)[0].output() == reference / pair.video


def test_kind_12_two_forms_of_one_name_are_refused_and_not_chosen_from(tmp_path: Path) -> None:
    both = tree(tmp_path / "both", *(form(name, f"{NAME}.mp4") for name in FORMS))
    with pytest.raises(UserError, match="different names"):
        pair_by_name(both)
    reference = tree(tmp_path / "ref", f"{NAME}.mp4")
    (task,) = list_tasks([Method("m", MethodType.OTHER, folder=both)], pair_by_name(reference))
    with pytest.raises(ScoringError) as refused:
        task.output()
    assert refused.value.reason == Reason.AMBIGUOUS_OUTPUT
    (tmp_path / "pairs.csv").write_text(
        "video,audio,output\n" + "".join(f"{NAME},,{form(name, 'é')}\n" for name in FORMS), "utf-8"
    )
    with pytest.raises(UserError, match="two pairs"):
        pair_by_list(reference, tmp_path / "pairs.csv", "csv")


def test_kind_12_a_leading_dash_is_part_of_the_name(tmp_path: Path) -> None:
    """As in many YouTube ids, and as `synthesize` writes such names into dubs.csv."""
    reference = tree(tmp_path / "ref", "-6bK/-1.mp4", "b.mp4")
    folder = tree(tmp_path / "-out", "-6bK/-1.mp4", "b.mp4", "0.mp4")
    (method,) = read_methods((f"-m={folder}",), None)
    assert [task.output() for task in list_tasks([method], pair_by_name(reference))] == [
        folder / "-6bK/-1.mp4",
        folder / "b.mp4",
    ]
    (tmp_path / "lrs.txt").write_text("b -6bK/-1\n")
    (pair,) = pair_by_list(reference, tmp_path / "lrs.txt", "wav2lip-lrs").pairs
    assert (pair.video, pair.audio) == ("-6bK/-1.mp4", "b.mp4")
    for name in ("-6bK/-1.mp4", plain_cell("-6bK/-1.mp4")):
        (tmp_path / "pairs.csv").write_text(f"video,audio,output\n{name},b.mp4,{name}\n")
        (pair,) = pair_by_list(reference, tmp_path / "pairs.csv", "csv").pairs
        assert (pair.clip, pair.video) == ("-6bK/-1", "-6bK/-1.mp4")


@pytest.mark.parametrize("text", ["-a.mp4", "=1", "+1", "@x", "a", "'quoted'", ""])
def test_kind_12_what_is_written_for_spreadsheets_reads_as_it_was(text: str) -> None:
    assert formula_text(plain_cell(text)) == text
