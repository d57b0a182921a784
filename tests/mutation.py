"""`python -m tests.mutation [CHILDREN]`: breaks the code that keeps recordings in a thousand ways; do the tests notice?

What is broken and which tests have to notice stands in pyproject.toml ([tool.mutmut]). It works on a copy below
.cache/mutants, takes from half an hour to several, and prints what survived. docs/TESTING.md explains those.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
WORK: Final = ROOT / ".cache" / "mutants"
NEEDED: Final = ("agent", "hw", "fleet", "tests", "docs", "pyproject.toml", "README.md", "LICENSE")

SURVIVED: Final = (0, 5, 33)
"""pytest passed; no test at all came by."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one function, and how the tests ended."""

    module: str
    name: str
    before: str
    after: str
    killed: bool

    @property
    def same_sql(self) -> bool:
        """Whether only letters changed their case: to SQLite that's the same statement."""
        return self.before != self.after and self.before.lower() == self.after.lower()


def main(children: str = "2") -> None:
    """Break, test, report."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, WORK / name)
    subprocess.run(["nice", "-n", "19", "mutmut", "run", "--max-children", children], cwd=WORK, check=True)
    report(list(mutants()))


def mutants() -> Iterator[Mutant]:
    """Every mutant of the last run."""
    for meta in sorted(WORK.rglob("*.py.meta")):
        source = meta.with_suffix("")
        functions = {
            node.name: ast.unparse(node).splitlines()
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        for key, status in json.loads(meta.read_text())["exit_code_by_key"].items():
            name = key.rpartition(".")[2]
            original = functions[re.sub(r"__mutmut_\d+$", "__mutmut_orig", name)]
            changes = list(difflib.ndiff(original[1:], functions[name][1:]))
            before, after = ("\n".join(line[2:] for line in changes if line[0] == mark) for mark in "-+")
            module = str(source.relative_to(WORK / "mutants"))
            yield Mutant(module, name, before.strip(), after.strip(), status not in SURVIVED)


def report(found: list[Mutant]) -> None:
    """A table for docs/TESTING.md, and what survived but the same SQL in other letters."""
    total, killed, same = Counter[str](), Counter[str](), Counter[str]()
    for mutant in found:
        for row in (mutant.module, "all"):
            total[row] += 1
            killed[row] += mutant.killed
            same[row] += not mutant.killed and mutant.same_sql
    lines = ["| module | mutants | killed | | survived | of these SQL in other letters |", "|---|---|---|---|---|---|"]
    for row in sorted(total, key=lambda row: (row == "all", row)):
        share = f"{100 * killed[row] / total[row]:.1f} %"
        lines.append(f"| {row} | {total[row]} | {killed[row]} | {share} | {total[row] - killed[row]} | {same[row]} |")
    for mutant in found:
        if not mutant.killed and not mutant.same_sql:
            lines += ["", mutant.name, f"  - {mutant.before}", f"  + {mutant.after}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
