"""leaderboard.tex: whatever the names hold it is LaTeX, and it shows what the other tables show."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import GAN, METHODS, sample

from syncdiff_eval.methods import Method
from syncdiff_eval.report.cells import best, interval, number
from syncdiff_eval.report.groups import groups
from syncdiff_eval.report.latex import COLUMNS, escape, latex
from syncdiff_eval.results import Results

NASTY = r"[a]_%&$#~^\{}--b"
DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"


@pytest.fixture(scope="module")
def results() -> Results:
    """A method without any clip, one of low coverage, and names that LaTeX reads as commands."""
    named = [
        METHODS[0],
        METHODS[2],
        METHODS[4],
        Method(NASTY, GAN),
        Method("*Gé", GAN),
        Method("broken", GAN),
    ]
    return sample(20, named, failing={"latent": 8, "broken": 20}).results


def unescaped(text: str) -> str:
    """What LaTeX interprets: the text without comments, escaped letters and commands."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    return re.sub(r"\\([a-z]+|[^a-z])", "", "\n".join(lines))


def is_balanced(text: str) -> bool:
    depth = 0
    for letter in unescaped(text):
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return False
    return depth == 0


def tabulars(text: str) -> Iterator[tuple[str, list[str]]]:
    """Columns and rows of each."""
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        yield columns, [line for line in body.splitlines() if not re.fullmatch(r"\\[a-z]+", line)]


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_no_letter_of_a_name_is_a_command(name: str) -> None:
    text = escape(name)
    assert is_balanced(text)
    assert not re.search(r"[&#_%~^]|--", unescaped(text))
    assert unescaped(text).count("$") % 2 == 0


def test_names_are_printed_letter_by_letter() -> None:
    assert escape(NASTY) == (r"[a]\_\%\&\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}-{}-b")


def test_tables_are_whole(results: Results) -> None:
    text = latex(results)
    assert is_balanced(text)
    assert not re.search(r"[#_%^]", unescaped(re.sub(r"\\label\{.*\}", "", text)))
    opened, closed = (re.findall(rf"\\{word}\{{(\w+)\}}", text) for word in ("begin", "end"))
    assert sorted(opened) == sorted(closed)
    assert len(set(re.findall(r"\\label\{(.*)\}", text))) == opened.count("table")
    found = list(tabulars(text))
    assert len(found) == opened.count("table")
    for columns, rows in found:
        assert len(columns) <= 1 + COLUMNS
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
        assert all(row.endswith(r" \\") and not row.startswith(("[", "*")) for row in rows)


def test_cells_hold_mean_interval_and_rank_and_the_best_is_bold(results: Results) -> None:
    text = latex(results)
    for group in groups(results):
        for metric in group.metrics:
            for row in results.methods:
                score = row.scores[metric.name]
                mean = escape(number(score.mean, metric))
                shown = f"\\textbf{{{mean}}}" if row.name in best(results, metric) else mean
                assert f"{shown} ({score.rank})" in text if score.rank else shown in text
                assert escape(interval(score, metric)) in text
    assert "\\textbf" in text
    assert "low coverage" in text
    assert "{\\scriptsize GAN, 0/20 clips}" in text
    assert "no value (identical to reference, unreadable)" in text


def test_a_shared_first_rank_and_rows_without_numbers_are_left_out() -> None:
    few = latex(sample(6, METHODS[2:], failures=0).results)
    assert "(1)" not in few
    assert "\\textbf" not in few
    picture = few.partition("\\label{tab:leaderboard-picture}")[2].partition("\\end{table}")[0]
    assert "ground" not in picture
    assert picture.count("\\midrule") == 1


def test_warnings_are_comments(results: Results) -> None:
    lines = latex(results).splitlines()
    assert lines[0] == "% \\usepackage{booktabs}"
    assert any(line.startswith("% Warning: Clips without a score") for line in lines)


def test_letters_that_pdflatex_lacks_are_said(results: Results) -> None:
    assert "XeLaTeX" not in latex(results)
    greek = latex(sample(6, [Method("β-VAE", GAN)]).results)
    assert "% XeLaTeX or LuaLaTeX, and a font with β\n" in greek
    assert "β-VAE" in greek


def test_added_metrics_are_no_part_of_the_protocol(results: Results) -> None:
    assert "Not part of the protocol." not in latex(results)
    first, *rest = results.metrics
    added = results.model_copy(update={"metrics": [*rest, first.model_copy(update={"in_protocol": False})]})
    assert re.findall(r"\\caption\{(.*)Not part of the protocol\.", latex(added))[-1].startswith(
        "Added metrics"
    )


def test_real_video_alone_makes_a_table(results: Results) -> None:
    real = [row for row in results.methods if row.name == "ground_truth"]
    text = latex(results.model_copy(update={"methods": real, "comparisons": []}))
    assert all("ground\\_truth" in "".join(rows) for _, rows in tabulars(text))
    assert text.count("\\midrule") == text.count("\\begin{tabular}") > 0


@pytest.mark.skipif(not (which("pdflatex") or which("tectonic")), reason="there is no pdflatex or tectonic")
def test_it_compiles_and_fits_the_width_of_an_article(results: Results, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(DOCUMENT % latex(results), encoding="utf-8")
    command = (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "paper.tex"]
        if which("pdflatex")
        else ["tectonic", "--keep-logs", "paper.tex"]
    )
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overfull \\hbox" not in (tmp_path / "paper.log").read_text(errors="replace")
