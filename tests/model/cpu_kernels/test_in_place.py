"""Calls of the kernels on the calling thread move rows as XLA's foreign calls do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.backends import native
from saccade.model.classifier import fold, init_carry
from saccade.model.config import ModelConfig
from tests.model.variants import VARIANTS, random_variables

pytest.importorskip("numba", reason="no native code without numba")

from saccade.model.cpu_kernels import in_place, packing
from saccade.model.cpu_kernels.in_place import RowsCall

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="native code is for a CPU"
)
ROWS, SESSIONS, TICKS = 9, 5, 4


class Network:
    """A network, some sessions' rows, and events for some of them."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.config = config
        variables = jax.tree.map(jnp.asarray, random_variables(config))
        backend = native(config, fold(config, variables))
        assert backend is not None
        assert backend.advance_rows is not None
        self.weights = np.asarray(backend.weights)
        self.by_xla = jax.jit(partial(backend.advance_rows, config))
        fresh = init_carry(config, variables, jnp.float32(30.0))
        row = np.asarray(packing.row_layout(config).to_rows(fresh), np.float32)
        self.pool = np.repeat(row[None], ROWS, axis=0)
        self.rows = rng.permutation(ROWS)[:SESSIONS].astype(np.int32)
        events = SESSIONS, TICKS * config.tick_events
        self.tokens = rng.integers(config.num_embeddings, size=events, dtype=np.int32)
        self.dt_ms = rng.exponential(1.0, events).astype(np.float32)
        self.ticks = np.array([TICKS, 0, 1, 2, TICKS], np.int32)

    @property
    def batch(self) -> tuple[Any, ...]:
        return self.rows, self.tokens, self.dt_ms, self.ticks


@pytest.mark.parametrize("index", range(len(VARIANTS)))
@pytest.mark.parametrize("keeps_lock", [False, True])
def test_the_bits_are_those_of_a_call_through_xla(index: int, keeps_lock: bool) -> None:
    network = Network(VARIANTS[index], index)
    call = RowsCall(network.config, ROWS, SESSIONS, TICKS, keeps_lock=keeps_lock)
    pool = network.pool.copy()
    for _ in range(2):
        expected = network.by_xla(network.weights, pool, *network.batch)
        logits = call(network.weights, pool, *network.batch)
        assert pool.tobytes() == np.asarray(expected[0]).tobytes()
        assert logits.tobytes() == np.asarray(expected[1]).tobytes()


def test_threads_move_rows_of_their_own_in_one_pool() -> None:
    network = Network(VARIANTS[0])
    one = [slice(k, k + 1) for k in range(SESSIONS)]
    calls = [RowsCall(network.config, ROWS, 1, TICKS) for _ in one]
    alone, shared = network.pool.copy(), network.pool.copy()

    def move(pool: Any, k: int) -> list[bytes]:
        part = [np.ascontiguousarray(x[one[k]]) for x in network.batch]
        return [calls[k](network.weights, pool, *part).tobytes() for _ in range(40)]

    expected = [move(alone, k) for k in range(SESSIONS)]
    with ThreadPoolExecutor(SESSIONS) as threads:
        scores = [*threads.map(partial(move, shared), range(SESSIONS))]
    assert scores == expected
    assert shared.tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pool", lambda pool: pool[:-1]),
        ("pool", lambda pool: pool.astype(np.float64)),
        ("tokens", lambda tokens: tokens[:, :-1]),
        ("tokens", lambda tokens: np.asfortranarray(tokens)),
        ("ticks", lambda ticks: ticks.astype(np.int64)),
    ],
)
def test_an_array_of_another_shape_or_kind_is_refused(name: str, change: Any) -> None:
    network = Network(VARIANTS[0])
    call = RowsCall(network.config, ROWS, SESSIONS, TICKS)
    arrays = {"pool": network.pool, **dict(zip(BATCH, network.batch, strict=True))}
    arrays[name] = change(arrays[name])
    # Tests check annotations as well, which say the kind.
    with pytest.raises((ValueError, TypeError), match=r"contiguous|Type-check"):
        call(network.weights, **arrays)


BATCH = ("rows", "tokens", "dt_ms", "ticks")


def test_a_model_is_for_it_where_a_long_call_is_worth_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = VARIANTS[0]
    work = packing.tick_work(config) * packing.OTHER_CORES
    monkeypatch.setattr(packing, "THREAD_WORK", 40 * work)
    assert in_place.suits(config)
    assert in_place.quick_ticks(config) == 10
    monkeypatch.setattr(packing, "THREAD_WORK", 30 * work)
    assert not in_place.suits(config)
    monkeypatch.setattr(packing, "THREAD_WORK", 3 * work)
    assert in_place.quick_ticks(config) == 0
