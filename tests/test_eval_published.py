"""Published numbers: every one has a source, and none is taken for measured."""

import pytest

from syncdiff_data.records import UserError
from syncdiff_eval.methods import KNOWN_METHODS, Method, MethodType, method_key, read_registry
from syncdiff_eval.published import read_published

DATASETS = ("HDTF", "LRS2", "LRS3", "LRW", "VFHQ")


def test_every_number_says_where_it_comes_from() -> None:
    numbers = [number for dataset in DATASETS for number in read_published(dataset)]
    assert len(numbers) == 149
    assert all(number.source and number.how and number.setting for number in numbers)
    keys = {(n.source, n.setting, n.method, n.dataset, n.metric) for n in numbers}
    assert len(keys) == len(numbers)


def test_own_and_crossed_audio_are_in_separate_tables() -> None:
    """The two anchors: LRS2 ground truth, and Wav2Lip's crossed pairs."""
    lrs2 = read_published("LRS2")
    truth = {
        n.metric: n.value for n in lrs2 if n.type is MethodType.REFERENCE and n.protocol == "wav2lip-lrs"
    }
    assert truth == {"lse_c": 8.248, "lse_d": 6.258}
    assert {n.audio for n in lrs2 if n.method == "Wav2Lip" and n.protocol == "wav2lip-lrs"} == {"crossed"}


def test_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="HDTF, LRS2, LRS3, LRW, VFHQ"):
        read_published("LRS4")


def test_every_published_method_is_typed_and_cited() -> None:
    """Published rows of one name may be of several types (Wav2Lip with and without its discriminator)."""
    entries = read_registry(KNOWN_METHODS)
    known: dict[str, Method] = {method_key(entry.name): entry for entry in entries}
    assert len(known) == len(entries)
    types: dict[str, set[MethodType]] = {}
    for number in (number for dataset in DATASETS for number in read_published(dataset)):
        if number.type is not MethodType.REFERENCE:
            types.setdefault(number.method, set()).add(number.type)
    assert [name for name in types if method_key(name) not in known] == []
    for name, published in types.items():
        entry = known[method_key(name)]
        assert entry.type in published, name
        assert entry.citation, name
