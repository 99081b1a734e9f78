"""Writes the files that are generated from the table of settings; run by scripts/generate."""

from __future__ import annotations

import sys
from pathlib import Path

from palfrey.config.render import reference, sample

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {"conf/palfrey.conf.py": sample, "docs/settings.md": reference}


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: scripts/generate [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, render in GENERATED.items():
        path, text = ROOT / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if arguments and stale:
        print(f"stale: {', '.join(stale)}; run scripts/generate", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
