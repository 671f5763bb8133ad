"""Memory that was freed goes back to the system, from the heap of every thread."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import queue, threading
from process_tree import private_mib
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


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_what_each_thread_once_needed_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[1] / "support", capture_output=True, text=True
    )
    before, after = map(float, done.stdout.split())
    assert before - after > 100, done.stderr
