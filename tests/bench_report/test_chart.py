from xml.etree import ElementTree as ET

import pytest

from tests.bench.chart import Bar, chart
from tests.bench.figures import Standing

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(*bars: Bar) -> list[tuple[float, float]]:
    """Left and right end of each bar."""
    root = ET.fromstring(chart(bars, title="a & b", subtitle="<c>"))  # noqa: S314 - our own
    drawn = [each for each in root.iter(f"{SVG}rect") if "x" in each.attrib]
    return [(float(each.attrib["x"]), float(each.attrib["x"]) + float(each.attrib["width"])) for each in drawn]


def goal_line() -> float:
    """Where the line of the goals stands: a gain of 1 has the least bar there is."""
    return rectangles(Bar("x", 1.0, Standing.MET, ""))[0][0]


def test_bars_begin_at_the_goal_and_go_right_when_it_is_met() -> None:
    """Better is to the right, worse to the left."""
    (better_left, better_right), (worse_left, worse_right) = rectangles(
        Bar("better", 2.0, Standing.MET, ""), Bar("worse", 0.5, Standing.MISSED, "")
    )

    assert goal_line() == better_left == pytest.approx(worse_right, abs=0.2)
    assert better_right - better_left == pytest.approx(worse_right - worse_left, abs=0.2)


@pytest.mark.parametrize(
    ("gain", "same_as"),
    [
        pytest.param(1_000.0, 16.0, id="far beyond the goal"),
        pytest.param(float("inf"), 16.0, id="a zero that should be low"),
        pytest.param(0.0, 0.25, id="nothing at all"),
    ],
)
def test_bars_end_with_the_axis(gain: float, same_as: float) -> None:
    """What would lie outside is cut off."""
    assert rectangles(Bar("x", same_as, Standing.MET, "")) == rectangles(Bar("x", gain, Standing.MET, ""))


def test_text_is_escaped() -> None:
    """Names may hold what has a meaning in XML."""
    drawn = chart([Bar("<x>", 2.0, Standing.MET, "5 & 6")], title="a & b", subtitle="<c>")

    texts = [each.text for each in ET.fromstring(drawn).iter(f"{SVG}text")]  # noqa: S314

    assert {"a & b", "<c>", "<x>", "5 & 6"} <= set(texts)
