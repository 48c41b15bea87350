"""A registered model in a process of its own, which has no Lindley but what the model carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Loads the model, and prints as JSON where Lindley is from and what it predicts.
ALONE = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path[:] = [p for p in sys.path if not Path(p or ".", "lindley").is_dir()]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in str(getattr(f, "__module__", f))]
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(mlflow.pyfunc.load_model(sys.argv[1]).input_example)
import lindley
print(json.dumps({"from": lindley.__file__, "mean": answer["mean"].tolist()}))
"""


def answer_alone(model: Path, folder: Path, script: str = ALONE) -> Any:
    """Run a script with a model in a process that works in `folder`; return the JSON it prints."""
    unset = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(model)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in unset},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
