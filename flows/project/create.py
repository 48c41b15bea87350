"""Write the files of a new working folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from lindley import __version__
from lindley.atomic import write_new
from lindley.errors import FolderRefused

#: Where each file of a project goes, by its name in the package.
_FILES = {
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "models/daily_sales.py": "models/daily_sales.py",
    "examples/week1.csv": "examples/week1.csv",
    "examples/week2.csv": "examples/week2.csv",
    "github/models.yml": ".github/workflows/models.yml",
}


def create_project(folder: Path) -> tuple[Path, ...]:
    """Write models, examples, deployments, a README and a CI file into a folder.

    The folder is made if it does not exist. Other files in it stay as they are.

    Parameters
    ----------
    folder
        The new working folder.

    Returns
    -------
    tuple of Path
        The files that were written.

    Raises
    ------
    FolderRefused
        If one of the files is there already, or the folder is a file; nothing is written then.
    """
    own = files("flows.project") / "files"
    contents = {target: (own / name).read_bytes() for name, target in _FILES.items()}
    contents["prefect.yaml"] = (files("flows") / "prefect.yaml").read_bytes()
    contents["requirements.txt"] = f"lindley=={__version__}\n".encode()
    there = [name for name in contents if (folder / name).exists()]
    if there or (folder.exists() and not folder.is_dir()):
        raise FolderRefused(
            f"{folder} cannot become a working folder",
            expected="a new folder, or one without files of these names",
            found=", ".join(there) or "a file",
            todo="choose another folder, or move these files away; nothing was written",
        )
    written = []
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if write_new(data, path):
            written.append(path)
    return tuple(written)
