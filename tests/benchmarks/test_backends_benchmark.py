"""The benchmark of the two backends times a server's shapes on both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.backends import compare, served_shapes, table
from benchmarks.baseline import CONFIGURATIONS
from benchmarks.cases import Shape, draw


def test_every_shape_has_the_rates_of_both_backends_and_their_ratio() -> None:
    config = replace(
        CONFIGURATIONS["dvs/small"],
        num_embeddings=50,
        d_model=8,
        d_ssm=8,
        ssm_block_size=4,
        num_layers_per_stage=1,
        pooling_stride=4,
    )
    rows = compare("small", draw(config), [Shape(1, 1), Shape(3, 2)], budget_s=0.0)
    assert [row.case for row in rows] == [
        "1 session, single ticks",
        "3 sessions, 2 ticks each",
    ]
    for row in rows:
        native, xla = row.native_events_per_second, row.xla_events_per_second
        assert row.ratio == pytest.approx(native / xla)
    assert table(rows).row_count == len(rows)


def test_the_shapes_are_those_that_a_server_compiles_by_default() -> None:
    assert Shape(64, 4) in served_shapes(64)
    assert Shape(64, 4) not in served_shapes(256)
    assert Shape(1, 64) in served_shapes(256)
