"""Kind 25: a method that lacks most clips takes neither rank nor order from the others."""

from typing import Any

import numpy as np
from report_samples import METHODS, Sample, sample

from syncdiff_eval.methods import Method, MethodType
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.report.by_type import type_comparisons
from syncdiff_eval.report.cells import best, split_ranked
from syncdiff_eval.report.groups import ordering_metric
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.tables import comma_separated, markdown
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import Comparison, MethodResult, MetricInfo
from syncdiff_eval.summary import method_results

LSE_C = MetricInfo(
    name="lse_c", title="LSE-C", unit="", higher_is_better=True, decimals=3, pooled=False, not_available=None
)


def ranked(values: dict[str, dict[int, float]]) -> tuple[dict[str, MethodResult], list[Comparison]]:
    """values: method -> clip -> score; what is absent failed."""
    clips = range(1 + max(clip for own in values.values() for clip in own))
    records: list[dict[str, Any]] = [
        {"method": name, "clip": str(clip), "status": "scored", "values": {"lse_c": own[clip]}}
        if clip in own
        else {"method": name, "clip": str(clip), "status": "failed", "reason": "unreadable"}
        for name, own in values.items()
        for clip in clips
    ]
    rows, comparisons = method_results(
        [Method(name, MethodType.GAN) for name in values], [LSE_C], records, {}, dict.fromkeys(values, 0),
        SYNCDIFF, {str(clip): str(clip) for clip in clips},
    )  # fmt: skip
    return {row.name: row for row in rows}, comparisons


def drawn(level: float, clips: range, seed: int) -> dict[int, float]:
    rng = np.random.default_rng(seed)
    return {clip: float(level + rng.normal(0, 0.1)) for clip in clips}


def test_kind_25_a_method_with_one_clip_changes_no_rank() -> None:
    good, bad = drawn(8, range(40), 0), drawn(7, range(40), 1)
    bad[3] = 20.0  # on the one clip that all have, the order is the other way round
    alone, _ = ranked({"good": good, "bad": bad})
    rows, comparisons = ranked({"good": good, "bad": bad, "failing": {3: 9.0}})
    for name, rank in (("good", 1), ("bad", 2)):
        assert rows[name].scores["lse_c"] == alone[name].scores["lse_c"]
        assert rows[name].scores["lse_c"].rank == rank
    score = rows["failing"].scores["lse_c"]
    assert (score.low_coverage, score.rank, score.n_shared, score.mean) == (True, None, 0, 9.0)
    assert [c.winner for c in comparisons] == ["good", None, None]
    assert comparisons[0].p_holm == comparisons[0].p  # the two without a test cost nothing


def test_kind_25_the_coverage_that_counts_is_nine_tenths_of_the_best_covered_method() -> None:
    rows, _ = ranked(
        {"a": drawn(8, range(40), 0), "b": drawn(8, range(4, 40), 1), "c": drawn(8, range(5, 40), 2)}
    )
    low = {name: row.scores["lse_c"].low_coverage for name, row in rows.items()}
    assert low == {"a": False, "b": False, "c": True}
    assert rows["a"].scores["lse_c"].n_shared == 36


def test_kind_25_order_is_that_of_the_clips_each_pair_shares() -> None:
    """b lacks the four hard clips and has the higher mean; on the clips that both have a is better."""
    hard = dict.fromkeys(range(4), 2.0)
    a = {clip: value + 0.5 for clip, value in drawn(8, range(4, 40), 0).items()} | hard
    b = drawn(8, range(4, 40), 1)
    rows, _ = ranked({"b": b, "a": a})
    means = {name: row.scores["lse_c"].mean for name, row in rows.items()}
    assert means["b"] is not None
    assert means["a"] is not None
    assert means["b"] > means["a"]
    assert {name: row.scores["lse_c"].rank for name, row in rows.items()} == {"a": 1, "b": 2}


def with_failing() -> Sample:
    """A report of three methods; the last has one clip in four and would be the best."""
    return sample(30, METHODS[:3], failures=0, failing={"latent": 27})


def test_kind_25_the_report_says_which_methods_have_no_rank_and_why() -> None:
    made = with_failing()
    metric = ordering_metric(made.results)
    assert metric is not None
    order = [row.name for row in split_ranked(made.results)[0]]
    assert order == ["softgan", "wav2lip", "latent", "frozen_first_frame"]
    assert best(made.results, metric) == {"softgan"}
    # The one diffusion method does not represent its type, but in the Fréchet distances, which have no value per clip.
    assert [compared.metric.name for compared in type_comparisons(made.results)] == [
        "fid_face",
        "frechet_centerface",
    ]
    sentences = [sentence for sentence in warnings(made.results) if "latent (under" in sentence]
    assert len(sentences) == 1
    assert "less than 90%" in sentences[0]
    assert "3/30 clips" in sentences[0]
    page, text = render_page(made.results, made.per_clip, made.curve), markdown(made.results)
    for shown in (page, text):
        assert "low coverage" in shown
        assert sentences[0] in shown
    assert ",True,," in comma_separated(made.results)
