"""Names in pictures cover neither marks nor each other, as long as there is room."""

from hypothesis import given
from hypothesis import strategies as st

from kdaudit.report.charts.names import Box, around, place_names

INSIDE = Box(0, 0, 400, 300)
PLACES = st.tuples(st.floats(10, 390), st.floats(10, 290))


@given(st.lists(PLACES, min_size=1, max_size=4, unique=True))
def test_a_few_names_stand_apart_inside_the_picture(places: list[tuple[float, float]]) -> None:
    points = {f"arm-{k}": place for k, place in enumerate(places)}
    marks = [around(*place, 9) for place in places]
    found = place_names(points, marks, INSIDE)
    boxes = list(found.values())
    assert found.keys() == points.keys()
    assert all(abs(box.shared(INSIDE) - box.area) < 1e-6 for box in boxes)
    assert all(one.shared(other) < 1 for k, one in enumerate(boxes) for other in boxes[:k])
    assert all(box.shared(mark) < 1 for box in boxes for mark in marks)


def test_a_name_stands_right_beside_its_mark_where_nothing_is_in_the_way() -> None:
    (box,) = place_names({"plain": (100, 100)}, [around(100, 100, 9)], INSIDE).values()
    assert (box.left, (box.bottom + box.top) / 2) == (109, 100)
