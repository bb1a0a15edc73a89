"""Time the pieces whose name matches."""

from __future__ import annotations

import argparse
import importlib
import re

from bench.micro import REPETITIONS, SECONDS, measure

FILES = ("codec", "streams", "calls", "serde", "store")


def main() -> None:
    """Read the command line, time, print."""
    parser = argparse.ArgumentParser("python -m bench.micro", description=__doc__)
    parser.add_argument("rows", nargs="?", default="", metavar="REGEX")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    for file in FILES:
        for piece in importlib.import_module(f"bench.micro.{file}").pieces():
            if re.search(options.rows, piece.name):
                print(measure(piece, options.seconds, options.repetitions), flush=True)


if __name__ == "__main__":
    main()
