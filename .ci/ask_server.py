"""Ask a server that just started, with a key, for what an operator looks at first.

python .ci/ask_server.py URL KEY
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request

READY_S = 300
DIGIT = {"t": [0, 10, 20], "x": [3, 4, 5], "y": [7, 7, 7], "p": [1, 1, 0]}


def request(
    url: str, key: str = "", body: dict[str, object] | None = None
) -> tuple[int, str]:
    """Return the status and the text of an answer."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    data = None
    if body is not None:
        data, headers["content-type"] = json.dumps(body).encode(), "application/json"
    asked = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def wait_until_ready(url: str) -> None:
    """Return when the server serves.

    Raises:
        SystemExit: It did not within 5 minutes.
    """
    for _ in range(2 * READY_S):
        try:
            if request(f"{url}/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"{url} was not ready within {READY_S} s")


def main(url: str, key: str) -> int:
    """Return 0 once everything has answered as it should."""
    wait_until_ready(url)
    status, text = request(f"{url}/v1/models")
    assert status == 401, text
    status, text = request(f"{url}/v1/models", key)
    names = sorted(model["model"] for model in json.loads(text)["models"])
    assert names == ["motions", "nmnist"], text
    assert request(f"{url}/healthz")[0] == 200
    assert "<!doctype html>" in request(f"{url}/")[1].lower()
    assert request(f"{url}/web/saccade.js")[0] == 200
    batch = {"model": "nmnist", "recordings": [DIGIT]}
    status, text = request(f"{url}/v1/classify", key, batch)
    assert status == 200, text
    status, text = request(f"{url}/metrics", key)
    assert status == 200, text
    assert "saccade_events_scored_total" in text
    sys.stdout.write(f"{url} serves {', '.join(names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
