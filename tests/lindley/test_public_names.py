"""What `import lindley` offers."""

import subprocess
import sys

import lindley


def test_every_public_name_can_be_imported():
    for name in lindley.__all__:
        assert getattr(lindley, name) is not None


def test_verify_stays_a_function_when_the_verifier_is_imported():
    code = "import lindley, lindley.verification.case; assert callable(lindley.verify), lindley.verify"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_import_is_light():
    code = (
        "import sys, lindley; heavy = {'numpy', 'pandas', 'pymc', 'mlflow'} & set(sys.modules);"
        " assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
