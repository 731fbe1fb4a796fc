import json
import struct
from pathlib import Path
from random import Random

import pytest

from metacog.data.tasks.families import Domain
from metacog.eval.cheap import Point
from metacog.eval.contrasts import Resampling
from metacog.eval.figures import Figures, Lengths, figures_of
from metacog.eval.report import write_report
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint
from metacog.eval.summary import summarise
from tests.unit.eval.hand import row

ARMS = {"uncapped": 40, "learned": 22, "learned.constant": 22, "prompt_only": 30, "cap.8": 8}


def rows_of(n: int) -> list[EvalRow]:
    rng = Random(0)
    rows = []
    for index in range(n):
        family, domain = rng.choice([("gcd", Domain.MATH), ("ab", Domain.LOGIC)])
        need = rng.randint(3, 60)
        for arm, used in ARMS.items():
            confidence = rng.random()
            rows.append(
                row(
                    question_id=f"q{index}",
                    family=family,
                    domain=domain,
                    arm=arm,
                    used=used,
                    predicted=need + rng.randint(0, 9),
                    need=need,
                    confidence=confidence,
                    correct=rng.random() < confidence,
                    alpha=(0.2, 0.5, 0.3) if family == "gcd" else (0.6, 0.3, 0.1),
                )
            )
    return rows


ROWS = rows_of(60)
SUMMARY = summarise(ROWS, ready=[ReadyPoint(0.5, 0.5)], resampling=Resampling(100))
FIGURES = figures_of(SUMMARY, ROWS, [Point(0.1, 3.0), Point(0.6, 40.0)])
PROVENANCE = {"command": "metacog eval nano --n 60 & <more>", "base": "abc123"}


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_numbers_behind_the_pictures() -> None:
    points = {point.arm: point for point in FIGURES.curve.arms}
    assert set(points) == set(ARMS)
    assert points["learned"].spend == 24
    assert points["learned"].accuracy == SUMMARY["accuracy"]
    assert FIGURES.curve.constant[1] == Point(0.6, 40.0)
    assert FIGURES.budget.total == len(FIGURES.budget.dots) == 60
    assert FIGURES.budget.spearman == pytest.approx(SUMMARY["prompt_only"]["budget"]["spearman"])
    assert sum(found.count for found in FIGURES.reliability.bins) == 60
    for found in FIGURES.reliability.bins:
        assert found.accuracy_ci95[0] <= found.accuracy + 1e-12
        assert found.accuracy <= found.accuracy_ci95[1] + 1e-12
    assert FIGURES.alpha.by_domain["math"] == pytest.approx((0.2, 0.5, 0.3))
    assert FIGURES.alpha.by_domain["logic"] == pytest.approx((0.6, 0.3, 0.1))


def test_the_weights_of_a_domain_are_the_mean_of_its_replies() -> None:
    rows = [row(question_id="a", alpha=(0.2, 0.8)), row(question_id="b", alpha=(0.6, 0.4))]
    found = figures_of({"arms": {}}, rows).alpha.by_domain
    assert found == {"math": pytest.approx((0.4, 0.6))}


def test_gate_plans_and_errors_by_hand() -> None:
    rows = [
        row(question_id="a", arm="gated", level=0, gate_coverage=0.2, used=10, correct=True),
        row(question_id="b", arm="gated", level=0, gate_coverage=0.6, used=30, correct=False),
        row(question_id="c", arm="gated", level=2, gate_coverage=1.0, used=20, correct=True),
        row(question_id="a", arm="learned", plan="direct", used=4, correct=False),
        row(question_id="b", arm="learned", plan="verify", used=6, correct=False),
        row(question_id="c", arm="learned", plan="verify", used=8, correct=False),
        row(question_id="d", arm="learned", plan="verify", used=9, correct=True),
    ]
    found = figures_of({"arms": {}}, rows)
    assert found.gate.coverage == {"gcd": (pytest.approx(0.4), None, 1.0)}
    assert found.plans.by_family == {"gcd": {"direct": 0.25, "verify": 0.75}}
    assert found.wrong.unlimited["gcd"] == Lengths(15.0, 30.0, 1 / 3)
    assert found.wrong.learned["gcd"] == Lengths(9.0, 6.0, 0.75)


def test_wilson_by_hand() -> None:
    found = figures_of(
        {"arms": {}},
        [row(question_id=f"q{i}", correct=i < 5, confidence=0.5) for i in range(100)],
    ).reliability.bins[0]
    # The first bin holds 10 rows, 5 of them right: centre .5, half 1.96 sqrt(.25/10 + ...) / ...
    z = 1.959964
    half = z / (1 + z**2 / 10) * (0.25 / 10 + z**2 / 400) ** 0.5
    assert found.count == 10
    assert found.accuracy_ci95 == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


def test_a_big_scatter_is_a_sample_that_says_so() -> None:
    many = [row(question_id=f"q{i}", need=1 + i % 50, predicted=2 + i % 50) for i in range(2000)]
    figure = figures_of({"arms": {}}, many).budget
    assert len(figure.dots) == 1500
    assert figure.total == 2000


def test_a_report_is_a_page_that_loads_nothing(tmp_path: Path) -> None:
    page = write_report(tmp_path, SUMMARY, FIGURES, title="nano <1>", provenance=PROVENANCE)
    text = page.read_text(encoding="utf-8")
    assert "<title>nano &lt;1&gt;</title>" in text
    assert "--n 60 &amp; &lt;more&gt;" in text
    assert text.count("data:image/png;base64,") == 8
    for outside in ("http://", "https://", "<script", "<link", "url("):
        assert outside not in text
    assert "60 questions" in text


def test_every_picture_has_its_numbers_beside_it(tmp_path: Path) -> None:
    write_report(tmp_path, SUMMARY, FIGURES, title="t", provenance=PROVENANCE)
    for name in FIGURES.as_json():
        width, height = size_of((tmp_path / f"{name}.png").read_bytes())
        assert width > 600
        assert height > 300
        numbers = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        assert numbers == json.loads(json.dumps(FIGURES.as_json()[name]))
        assert f"({name}.png)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["provenance"] == PROVENANCE
    assert summary["accuracy"] == SUMMARY["accuracy"]


def test_markdown_tables_are_whole(tmp_path: Path) -> None:
    write_report(tmp_path, SUMMARY, FIGURES, title="t", provenance=PROVENANCE)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    arms = [line for line in lines if line.startswith("| learned.constant ")]
    assert len(arms) == 1
    gain = 100 * SUMMARY["delta_constant"]["mean"]
    assert f"| {gain:+.2f} |" in arms[0]
    widths = {line.count("|") for line in lines if line.startswith("| gcd")}
    assert widths == {10}


def test_a_report_without_a_layer_says_what_is_missing(tmp_path: Path) -> None:
    plain = [
        row(question_id=f"q{i}", arm="uncapped", predicted=None, confidence=None, need=None)
        for i in range(4)
    ]
    summary = summarise(plain, resampling=Resampling(20))
    figures = figures_of(summary, plain)
    assert figures.budget.dots == ()
    page = write_report(tmp_path, summary, figures, title="t", provenance={})
    assert "n/a" in page.read_text(encoding="utf-8")


def test_figures_are_typed_as_one_object() -> None:
    assert isinstance(FIGURES, Figures)
    names = {"curve", "budget", "reliability", "alpha", "gate", "plans", "wrong", "lengths"}
    assert set(FIGURES.as_json()) == names
