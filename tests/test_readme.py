"""The README's snippets run, and say the truth."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[1]


def snippets_of(page: str) -> list[str]:
    """Return the blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the one snippet that contains `text`, in a folder like the project's; returns its names."""
    for name in ("models", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> dict[str, Any]:
        (snippet,) = (snippet for snippet in snippets_of("README.md") if text in snippet)
        names: dict[str, Any] = {}
        exec(snippet, names)
        return names

    return run


def test_loading_and_predicting(run: Any) -> None:
    pytest.importorskip("PIL")
    model = run("models/lenet.npz")["model"]
    assert model.predict("examples/digits/7.png") == 7


def test_converting_and_saving(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pets = run("from_torch")["pets"]
    assert (tmp_path / "pets.npz").exists()
    assert isinstance(pets, fastconv.Model)
    assert pets.labels == ("cat", "dog")


def test_functions(run: Any) -> None:
    assert run("import fastconv.functional as F")["y"].shape == (8, 16, 16, 16)


def test_gradients(run: Any) -> None:
    names = run("import vjp")
    assert names["grad_x"].shape == (1, 1, 6, 8)
    assert names["grad_weight"].tolist() == [[[[4, 4]]]]


def test_the_page_on_gradients_learns() -> None:
    (snippet,) = snippets_of("docs/gradients.md")
    losses: list[float] = []
    exec(snippet.replace("    weight -=", "    losses.append(float(loss))\n    weight -="), {"losses": losses})
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("name", ["report", "functional", "lightness"])
def test_tables_show_the_stored_results(name: str) -> None:
    """Those of every processor that has any."""
    pytest.importorskip("rich")
    pytest.importorskip("PIL")
    report = import_module("report")
    benchmark = import_module(name)
    section = report.readme_section() if name == "report" else report.section(benchmark.STORED, benchmark.markdown)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.with_section(readme, section, benchmark.BEGIN, benchmark.END) == readme, "run benchmarks/report.py"
