"""The README's example is the tutorial's, and prints what it shows."""

import json
import re
from pathlib import Path

from lindley.batch.reading import read_batch
from lindley.model.declaration import load_declaration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def model_source() -> str:
    """Return the model file of the README."""
    blocks = re.findall(r"```python\n(# models/daily_sales\.py\n.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 1
    return blocks[0].split("\n", 1)[1]


def test_the_model_is_that_of_the_tutorial_which_make_docs_runs():
    notebook = json.loads((ROOT / "docs/tutorials/daily-sales.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    (written,) = [source for source in sources if source.startswith("%%writefile models/daily_sales.py")]
    assert written.split("\n", 1)[1].strip() == model_source().strip()


def test_the_batch_has_the_digest_that_the_readme_shows(tmp_path):
    (tmp_path / "daily_sales.py").write_text(model_source(), encoding="utf-8")
    (printed,) = re.findall(r"printf '([^']+)' > week1\.csv", README)
    (tmp_path / "week1.csv").write_text(printed.replace("\\n", "\n"), encoding="utf-8")
    (shown,) = re.findall(r"\(batch ([0-9a-f]{12})\)", README)
    batch = read_batch(tmp_path / "week1.csv", load_declaration("daily_sales", tmp_path))
    assert batch.digest.startswith(shown)


def test_notebooks_hold_no_outputs():
    for path in (ROOT / "docs/tutorials").glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), path.name
