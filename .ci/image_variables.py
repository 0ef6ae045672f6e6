"""Print the environment variables of the image, one `NAME=VALUE` a line.

python .ci/image_variables.py DOCKERFILE PREFIX

PREFIX stands for /opt/saccade, where the image holds what is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

IMAGE_PREFIX = "/opt/saccade"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def variables(dockerfile: str) -> dict[str, str]:
    """Return the variables that the ENV instructions of a Dockerfile set."""
    lines = re.sub(r"\\\n", " ", dockerfile).splitlines()
    pairs = [
        pair.partition("=")
        for line in lines
        if line.startswith("ENV ")
        for pair in line.removeprefix("ENV ").split()
    ]
    return {name: value for name, _, value in pairs}


def main(dockerfile: str, prefix: str) -> int:
    """Print the variables, with the prefix in place of the image's."""
    for name, value in variables(Path(dockerfile).read_text()).items():
        here = value.replace(IMAGE_PREFIX, prefix).replace("$PATH", SYSTEM_PATH)
        sys.stdout.write(f"{name}={here}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
