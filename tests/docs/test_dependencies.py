"""The lock of the documentation's tools fits the main lock."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", (ROOT / path).read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("path", ["docs/requirements.lock", "benchmarks/requirements.lock"])
def test_a_second_lock_pins_shared_packages_as_the_main_lock_does(path):
    main = pins("requirements.lock")
    differing = {name for name, version in pins(path).items() if main.get(name, version) != version}
    assert not differing


@pytest.mark.parametrize(
    "path", ["requirements.lock", "docs/requirements.lock", "benchmarks/requirements.lock"]
)
def test_locks_hold_hashes_and_no_addresses(path):
    text = (ROOT / path).read_text()
    assert pins(path)
    assert "://" not in text
    assert text.count("==") == len(re.findall(r"==[^\n]* \\\n    --hash=sha256:", text))
