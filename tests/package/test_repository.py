from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:wor" r"k|ro" r"ot|hom" r"e/\w+|Use" r"rs/\w+|op" r"t/\w+)/")
SCRATCH_PATH = re.compile(r"(?<![\w.])/tm" r"p/")
ADDRESS = re.compile(r"(?:https?|file)://")


def committed() -> list[Path]:
    """Every text file that is, or is about to be, part of the repository."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in done.stdout.splitlines()]
    return [file for file in files if file.is_file() and b"\0" not in file.read_bytes()]


def places(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for file in files
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_folder_of_one_machine():
    files = committed()
    assert ROOT / "pyproject.toml" in files
    assert places(MACHINE_PATH, files) == []


def test_no_document_names_a_scratch_folder():
    assert places(SCRATCH_PATH, [file for file in committed() if file.suffix in {".md", ".ipynb"}]) == []


def test_constraints_name_no_address():
    assert places(ADDRESS, [ROOT / "constraints.txt"]) == []


def test_npm_lock_names_versions_and_no_address_to_fetch_from():
    packages = json.loads((ROOT / "js" / "package-lock.json").read_text())["packages"]
    assert len(packages) > 10
    assert [name for name, entry in packages.items() if "resolved" in entry] == []


def test_constraints_pin_every_line_exactly():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line)] == []
