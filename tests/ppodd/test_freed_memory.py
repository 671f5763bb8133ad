"""Memory that was freed goes back to the system, from the heap of every thread."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import queue, threading
from test_freed_memory import private_mib
from ppodd.machine import return_freed_memory

def work(asked, done):
    while asked.get():
        pieces = [bytearray(5_000) for _ in range(8_000)]
        kept = bytearray(5_000)  # above the others: without it the heap's top would be trimmed
        del pieces
        done.put(kept)

done, threads = queue.Queue(), []
kept = []
for _ in range(4):  # each asked while the others stay, as of an actor
    asked = queue.Queue()
    threads.append(asked)
    threading.Thread(target=work, args=(asked, done), daemon=True).start()
    asked.put(True)
    kept.append(done.get())
before = private_mib()
return_freed_memory()
print(before, private_mib())
"""


def private_mib():
    status = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", status, re.MULTILINE)) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_what_each_thread_once_needed_is_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parent, capture_output=True, text=True)
    before, after = map(float, done.stdout.split())
    assert before - after > 100, done.stderr
