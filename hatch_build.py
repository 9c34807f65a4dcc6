"""Build hook: puts the front-end bundle into whatever is built, and says in words what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLE = ("widget.js", "widget.css")
NODE_MAJOR = 20


def bundle_is_current(root: Path) -> bool:
    """Whether every file of the bundle is there and no front-end source is newer than it."""
    bundle = [root / "sam3_widget" / "static" / name for name in BUNDLE]
    if not all(file.is_file() for file in bundle):
        return False
    # A source distribution carries the bundle of its own sources, and unpacking it scrambles the times.
    if (root / "PKG-INFO").is_file():
        return True
    built = min(file.stat().st_mtime for file in bundle)
    sources = [*(root / "js" / "src").rglob("*"), *(root / "js").glob("*.json"), *(root / "js").glob("*.*js")]
    return all(file.stat().st_mtime <= built for file in sources if file.is_file())


def build_bundle(root: Path) -> None:
    """Build the bundle with npm.

    Raises
    ------
    RuntimeError
        If the sources, Node.js or npm are missing, or the build fails.
    """
    if not (root / "js" / "package.json").is_file():
        raise RuntimeError(
            "The front-end bundle sam3_widget/static/ is missing and so are its sources in js/. "
            "Build from a git checkout or from a complete source distribution."
        )
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise RuntimeError(
            "The front-end bundle has to be built, and Node.js or npm is not on PATH. "
            f"Install Node.js {NODE_MAJOR} or newer (it brings npm), or install sam3-widget from a wheel, "
            "which needs neither."
        )
    # npm's own lifecycle variables of an outer run would override these calls' settings.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("npm_lifecycle")}
    for arguments in (["ci"], ["run", "build"]):
        done = subprocess.run(  # noqa: S603 - a fixed command on the project's own folder
            [npm, *arguments], cwd=root / "js", env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            command = " ".join(["npm", *arguments])
            raise RuntimeError(f"`{command}` in js/ failed:\n{done.stdout}{done.stderr}")


class BundleHook(BuildHookInterface):  # type: ignore[type-arg]
    """Build the bundle where its sources are and it is missing or older than they are."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Run before a wheel, an editable wheel or a source distribution is put together."""
        root = Path(self.root)
        if not bundle_is_current(root):
            build_bundle(root)
