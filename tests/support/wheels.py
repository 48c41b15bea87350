"""Lindley's wheel, built from the files that git has, and installed outside the clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BUILD = "from setuptools.build_meta import build_wheel; import sys; print(build_wheel(sys.argv[1]))"


def build(folder: Path) -> Path:
    """Build the wheel below a folder, and return it."""
    clone = folder / "clone"
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("lindley/", "flows/", "tasks/")) or "/" not in name:
            target = clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target, follow_symlinks=False)
    subprocess.run([sys.executable, "-c", _BUILD, folder], cwd=clone, check=True, capture_output=True)
    shutil.rmtree(clone)
    return next(folder.glob("lindley-*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment, and return its command ``lindley``.

    What Lindley requires is found where it is installed for this process; Lindley itself is not.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    # A line of a .pth file adds a folder without the .pth files in it, one of which names the clone.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "lindley"


def own_packages(folder: Path) -> None:
    """Put packages of a user's own into a folder, with the names of Lindley's, that nothing may import."""
    for name in ("flows", "tasks", "lindley"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text(
            "raise ImportError('the wrong package')\n", encoding="utf-8"
        )
