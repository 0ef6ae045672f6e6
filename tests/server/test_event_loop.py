from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import saccade.server.protocol.conversation
from saccade.server.event_loop import freeze_start

def garbage():
    one = []
    one.append(one)

before = len(gc.get_objects())
freeze_start()
after = len(gc.get_objects())
for _ in range(100):
    garbage()
print(before, after, gc.collect())
"""


def test_a_collection_looks_at_nothing_of_the_start_and_still_finds_later_garbage() -> (
    None
):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, collected = map(int, done.stdout.split())
    assert after < before / 100
    assert collected >= 100
