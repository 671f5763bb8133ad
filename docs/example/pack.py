"""Every record of a sweep in one file: `python docs/example/pack.py ARCHIVE/SWEEP docs/example/archive.jsonl.gz`.

A line a record: its path in the archive, the SHA-256 of the file, and what it holds. Posters stay in the archive; the
records name their digests.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

RECORDS = ("sweep.json", "*/config.json", "*/stage-*/stage.json", "*/stage-*/evaluations/*.json")


def main():
    sweep, output = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(path for pattern in RECORDS for path in sweep.glob(pattern) if not path.parts[-2].startswith("."))
    lines = [
        json.dumps({
            "path": path.relative_to(sweep.parent).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "record": json.loads(path.read_bytes()),
        })
        for path in files
    ]  # fmt: skip
    output.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main()
