"""Every way into the package: modules, the console command and Python handle errors alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from networks.narrow import narrow

import infogan_fast
from infogan_fast import cli

PACKAGE = Path(infogan_fast.__file__).parent


@pytest.fixture(scope="module")
def unbuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package's sources, without compiled libraries."""
    folder = tmp_path_factory.mktemp("unbuilt")
    shutil.copytree(PACKAGE, folder / "infogan_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)


def command_lines(run: Path) -> dict[str, list[str]]:
    """Each command that computes, with arguments that are valid."""
    return {
        "train": ["--steps", "1", "--device", "cpu"],
        "seeds": ["--n", "1", "--steps", "1", "--device", "cpu"],
        "evaluate": [str(run)],
        "traverse": [str(run)],
        "generate": [str(run)],
        "report": [str(run)],
        "demo": [str(run), "--port", "0"],
        "export": [str(run), "--to", "pt2"],
    }


@pytest.mark.parametrize("door", ["module", "console"])
@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "info"])
def test_a_missing_library_is_one_line_whatever_the_command(
    unbuilt: Path, strokes_run: Path, command: str, door: str
) -> None:
    way = [f"infogan_fast.{command}"] if door == "module" else ["infogan_fast", command]
    done = python(unbuilt, "-m", *way, *command_lines(strokes_run)[command])
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"infogan_fast.{command}: infogan_fast has no ")
    assert "; build it: pip install" in done.stderr
    assert not (unbuilt / "runs").exists()


def test_a_missing_library_is_a_user_error_in_python(unbuilt: Path, strokes_run: Path) -> None:
    code = (
        "import infogan_fast\n"
        "from infogan_fast.errors import UserError\n"
        f"run = {str(strokes_run)!r}\n"
        "for call in (lambda: infogan_fast.train(steps=1), lambda: infogan_fast.load_run(run)):\n"
        "    try: call()\n"
        "    except UserError as error: print(error)\n"
    )
    done = python(unbuilt, "-c", code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert lines[0].startswith("infogan_fast has no ")


def test_info_reports_a_missing_library(unbuilt: Path) -> None:
    done = python(unbuilt, "-m", "infogan_fast.info")
    assert done.returncode == 0
    assert "MISSING" in done.stdout


def test_importing_the_package_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    code = "import sys, infogan_fast; print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_does_not_import_torch(command: str) -> None:
    code = f"import sys; from infogan_fast.{command} import main\ntry: main(['--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m infogan_fast.{command}" in done.stdout


def test_a_training_run_does_not_import_what_only_compiling_needs(tmp_path: Path, grey_images: Path) -> None:
    """torch._dynamo takes as long to import as the rest of PyTorch."""
    flags = ["--data", str(grey_images), "--image-size", "16", "--batch-size", "8", "--steps", "1"]
    flags += ["--network", narrow()]
    flags += ["--latents", "noise=4,cat=2", "--device", "cpu", "--out", str(tmp_path / "run")]
    code = (
        f"import sys; from infogan_fast.train import main; assert main({flags!r}) == 0; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
