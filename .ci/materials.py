"""Compare a CycloneDX list of materials with the environment that it describes.

python .ci/materials.py PYTHON SBOM
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

LISTING = """
import json
from importlib.metadata import distributions
print(json.dumps([[each.name, each.version] for each in distributions()]))
"""


def canonical(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(python: str, path: str) -> int:
    """Return 0 if the list names exactly what is installed."""
    listed = subprocess.run([python, "-c", LISTING], check=True, capture_output=True)
    installed = {(canonical(name), v) for name, v in json.loads(listed.stdout)}
    bill = json.loads(Path(path).read_text())
    described = [*bill["components"], bill["metadata"]["component"]]
    named = {(canonical(each["name"]), each.get("version")) for each in described}
    wrong = [f"{path} differs in {each}" for each in sorted(installed ^ named, key=str)]
    sys.stderr.write("".join(f"{sentence}\n" for sentence in wrong))
    silent = [each["name"] for each in described if not each.get("licenses")]
    without = f", of which {', '.join(silent)} declare no licence" if silent else ""
    sys.stdout.write(f"{path} lists {len(named)} distributions{without}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
