"""The reader of compiled programs finds what a GPU's budget forbids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model import hlo

ROWS = 1031
POOL = np.zeros((ROWS, 24), np.float32)
DONATED = jax.jit(lambda pool, row: pool.at[row].set(1.0), donate_argnums=0)


def compiled(function: Callable[..., Any], *arguments: Any) -> hlo.Module:
    return hlo.read_module(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_row_of_a_donated_pool_is_written_in_place() -> None:
    text = DONATED.lower(POOL, 3).compile().as_text()
    assert hlo.pool_copies(hlo.read_module(text), ROWS) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda pool: pool.at[3].set(1.0),
        lambda pool: pool * 2.0,
        lambda pool: jnp.where(jnp.arange(ROWS)[:, None] == 3, 1.0, pool),
        lambda pool: jnp.concatenate([pool[:, :8], pool[:, 16:]], axis=1),
    ],
    ids=["not donated", "computed", "selected", "some columns"],
)
def test_whatever_else_writes_every_row_is_a_copy(function: Any) -> None:
    assert hlo.pool_copies(compiled(function, POOL), ROWS)


def test_a_batch_of_rows_is_not_the_pool() -> None:
    rows = np.arange(1024, dtype=np.int32)
    module = compiled(lambda pool, rows: pool[rows] * 2.0, POOL, rows)
    assert hlo.pool_copies(module, ROWS) == []
    assert module.launched()


def test_loops_and_branches_are_found() -> None:
    def looped(x: Any) -> Any:
        return jax.lax.fori_loop(0, x.astype(int)[0], lambda k, x: x * k, x)

    def branched(x: Any) -> Any:
        return jax.lax.cond(x[0] > 0, jnp.sin, jnp.sort, x)

    x = np.ones(8, np.float32)
    for function in (looped, branched):
        assert any(each.op in hlo.LOOPS for each in compiled(function, x))
    assert not any(each.op in hlo.LOOPS for each in compiled(jnp.sin, x))


@pytest.mark.parametrize(
    ("precision", "exact"), [(None, False), ("high", False), ("highest", True)]
)
def test_a_product_is_exact_where_it_says_so(precision: Any, exact: bool) -> None:
    x = np.ones((64, 64), np.float32)
    lowered = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision)).lower(x, x)
    (line,) = (each for each in lowered.as_text().splitlines() if "dot_general" in each)
    assert bool(hlo.EXACT_LOWERED.search(line)) is exact
    (product,) = hlo.products(hlo.read_module(lowered.compile().as_text()))
    assert bool(hlo.EXACT.search(product.text)) is exact


def test_kernels_on_tensor_cores_are_named() -> None:
    ptx = """
.visible .entry exact(
  .param .u64 p) { fma.rn.f32 %f1, %f2, %f3, %f4; }
.visible .entry rounded(
  .param .u64 p) { mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {}; }
.visible .entry wide(
  .param .u64 p) { wgmma.mma_async.sync.aligned.m64n16k8.f32.tf32.tf32 {}; }
"""
    assert hlo.tensor_core_kernels(ptx) == ["rounded", "wide"]
    with pytest.raises(ValueError, match="PTX"):
        hlo.tensor_core_kernels("")


def test_text_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.read_module("HloModule nothing\n")
