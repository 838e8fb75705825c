"""Who may import whom: the contracts of pyproject.toml hold."""

import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_linter(*arguments):
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_no_module_imports_a_higher_layer_or_a_sibling_folder():
    result = run_linter()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kept, 0 broken" in result.stdout


def test_the_linter_would_see_a_broken_contract(tmp_path):
    text = (ROOT / "pyproject.toml").read_text()
    turned = text.replace('    "workflows",\n', "").replace(
        '    "errors",\n', '    "errors",\n    "workflows",\n'
    )
    assert turned != text
    config = tmp_path / "turned.toml"
    config.write_text(turned)
    result = run_linter("--config", str(config), "--contract", "layers")
    assert result.returncode == 1
    assert "BROKEN" in result.stdout


def test_the_drawing_in_the_architecture_shows_these_layers():
    script = runpy.run_path(str(ROOT / "scripts" / "draw_layers.py"))
    picture = ROOT / "docs" / "images" / "layers.svg"
    assert picture.read_text(encoding="utf-8") == script["drawing_of_layers"]()
