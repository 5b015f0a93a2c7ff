"""The steps of docs/trainer/your-own.md, done as written in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "trainer" / "your-own.md").read_text()
FILES = {
    name: code
    for code, name in re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```", TEXT, re.M | re.S)
}
COMMANDS = re.findall(r"^    (python -m train .*?)(?: +#.*)?$", re.sub(r"\\\n\s+", "", TEXT), re.M)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Return a copy of the code with the files of the page."""
    copy = tmp_path_factory.mktemp("repository")
    for folder in ("optax_gc", "train", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name, code in FILES.items():
        (copy / name).write_text(code)
    return copy


def test_page_has_files_and_commands():
    assert {"my_adam.py", "my_parts.py", "my_functions.py"} <= FILES.keys()
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_command_trains(repository, command):
    arguments = command.split()[1:]
    result = subprocess.run(
        [sys.executable, *arguments, "--config.num_steps=2"],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": "", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "test top-1" in result.stdout
