"""A sensor's geometry is checked, and converted to and from a list."""

from __future__ import annotations

import pytest

from saccade.model.events.sensor import Sensor


@pytest.mark.parametrize("sides", [(0, 1), (1, 65537), (-1, 4)])
def test_a_sensor_has_sides(sides):
    with pytest.raises(ValueError, match="sensor"):
        Sensor(*sides)


def test_a_sensor_has_one_polarity_or_two():
    with pytest.raises(ValueError, match="polarities"):
        Sensor(1, 1, 3)


@pytest.mark.parametrize(
    ("sensor", "sides"), [(Sensor(34, 20), [34, 20]), (Sensor(700, 1, 1), [700, 1, 1])]
)
def test_a_list_gives_the_polarities_only_where_they_are_not_two(sensor, sides):
    assert sensor.to_list() == sides
    assert Sensor.from_list(sides) == sensor


def test_a_list_may_give_two_polarities():
    assert Sensor.from_list([34, 20, 2]) == Sensor(34, 20)


@pytest.mark.parametrize("sides", [[34], [34, 20, 2, 1], [True, 20]])
def test_a_list_holds_two_or_three_integers(sides):
    with pytest.raises(ValueError, match=r"is not \[width, height\]"):
        Sensor.from_list(sides)


@pytest.mark.parametrize("sides", [[0, 20], [34, 20, 3]])
def test_a_list_out_of_range_is_refused(sides):
    with pytest.raises(ValueError, match=r"not in|polarities, not 3"):
        Sensor.from_list(sides)
