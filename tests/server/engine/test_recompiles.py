"""What is compiled on a device's thread once it serves is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp

from saccade.server.engine.recompiles import Recompiles


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def compiled_anew(rows: int) -> None:
    jax.jit(lambda x: jnp.sin(x) * rows)(jnp.zeros(rows)).block_until_ready()


def test_a_program_compiled_on_the_thread_after_it_began_is_counted() -> None:
    recompiles = Recompiles()

    def serve() -> None:
        compiled_anew(3)
        recompiles.begin()
        before = recompiles.count
        compiled_anew(5)
        assert recompiles.count > before == 0

    in_a_thread(serve)
    assert recompiles.count > 0


def test_what_other_threads_compile_is_not_counted() -> None:
    recompiles = Recompiles()
    in_a_thread(recompiles.begin)
    in_a_thread(lambda: compiled_anew(7))
    compiled_anew(9)
    assert recompiles.count == 0
