"""One version in a process of its own: ``python -m benchmarks.vintages.once WHAT FOLDER LINK FILE``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Follow the source to the version in the folder, or refit the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pull", "refit"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("link", type=int)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    # Imported here because the process of one method must not pay for the other's imports.
    if options.what == "pull":
        from benchmarks.vintages.methods import pulled

        pulled(options.folder)
        return
    from benchmarks.speed.registry import Registry
    from benchmarks.speed.rivals import Pymc
    from benchmarks.vintages.target import TARGET

    registry = Registry(options.folder, TARGET.chain)
    Pymc(registry, TARGET, pooled=True).update(options.link, [options.file])


if __name__ == "__main__":
    main()
