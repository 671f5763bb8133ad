"""How long the command line takes to answer: whole processes, against a bare interpreter in the same run.

    python benchmarks/startup.py [--rounds 7]

Answers are the help of `ppodd` and of each of its subcommands, and a refusal of bad input. The limit is 0.5 s.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time

from ppodd.cli.main import COMMANDS

LIMIT_S = 0.5
BARE = [sys.executable, "-c", "pass"]
PPODD = [sys.executable, "-c", "import sys; from ppodd.cli.main import main; sys.exit(main())"]  # the console script's
CASES = {
    "python -c pass": (BARE, 0),
    "ppodd --help": ([*PPODD, "--help"], 0),
    **{f"ppodd {command} --help": ([*PPODD, command, "--help"], 0) for command in COMMANDS},
    "ppodd distill --window=0 (refused)": ([*PPODD, "distill", "--window=0"], 2),
    "ppodd distil (no such command)": ([*PPODD, "distil"], 2),
}


def seconds(command, status):
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - started
    assert done.returncode == status, f"{command} ended with {done.returncode}, not {status}: {done.stderr}"
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(f"Python {platform.python_version()}, medians of {rounds} runs of each, taken in turn")
    times = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, (command, status) in CASES.items():
            times[name].append(seconds(command, status))
    bare = statistics.median(times["python -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        late = f"  over the limit of {LIMIT_S} s" if median > LIMIT_S else ""
        print(f"{name:38} {median:6.3f} s  {median / bare:5.1f} × bare{late}")


if __name__ == "__main__":
    main()
