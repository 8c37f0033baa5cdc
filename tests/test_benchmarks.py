"""What the benchmarks compute: where results are kept, how they are merged and shown, what an exchange would gain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich")

import kernels_layers
import kernels_rules
import nets
import network
import report
from networks import vgg
from torchvision_import import import_torchvision

import fastconv
from fastconv.compile import compile_graph
from fastconv.rewrite import optimize


def config(name: str, level: str) -> dict[str, Any]:
    return {"machine": {"name": name}, "isa": "x86-64-v2", "isa_of_cpu": level}


def row(network: str, own: float, other: float, *, batch: int = 1, threads: int = 1, **more: Any) -> dict[str, Any]:
    results = {"fastconv": {"status": "ok", "median_us": own}, "ncnn": {"status": "ok", "median_us": other}}
    return {
        "network": network, "title": network, "batch": batch, "threads": threads, "target": 1.25, "results": results,
        **more,
    }  # fmt: skip


def taken(commit: str | None, *, day: int = 1, rounds: int = 4, others: float | None = 0.0) -> dict[str, Any]:
    return {
        "taken": {
            "date": f"2026-11-{day:02}T10:00:00+00:00", "commit": commit, "rounds": rounds,
            "versions": {"ncnn": "1.0", "tract": None}, "load_at_start": 0.25 * day, "others_cores": others,
        }
    }  # fmt: skip


def run(*rows: dict[str, Any], date: str = "2026-11-09T10:00:00+00:00", **machine: Any) -> dict[str, Any]:
    return {
        "suite": "zoo", "isa": "native", "date": date, "plan": {"rounds": 10}, "versions": {"ncnn": "0.9"},
        "machine": {"cpu": "A CPU", "cores": 2, "load_at_start": 0.1, **machine},
        "engines": {"fastconv": {"held_to_v3": True}, "ncnn": {"held_to_v3": False}}, "cases": list(rows),
    }  # fmt: skip


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results, in a project without a README's tables."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    return tmp_path / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("name", "level", "folder"),
    [
        ("Zen 4", "x86-64-v4", "zen4-avx512"),
        ("Zen 4", "x86-64-v3", "zen4-avx2"),  # masked, as in some virtual machines
        ("Zen 1-2", "x86-64-v3", "zen1-2-avx2"),
        ("Sapphire Rapids", "x86-64-v4", "sapphire-rapids-avx512"),
        ("Skylake-SP", "x86-64-v4", "skylake-sp-avx512"),
        ("Intel Core", "x86-64-v2", "intel-core-sse4"),
        ("unknown", "generic", "unknown-generic"),
    ],
)
def test_the_folder_of_a_processor(name: str, level: str, folder: str) -> None:
    assert report.cpu_slug(config(name, level)) == folder


def test_this_processor_has_a_folder_whatever_level_runs() -> None:
    assert "/" not in report.cpu_slug(fastconv.show_config())
    assert report.cpu_slug(None) == report.UNKNOWN


def test_processors_lie_side_by_side(results: Path) -> None:
    assert report.load("zen4-avx2", "peers-zoo") is None
    first, second = run(row("a", 1, 2)), run(row("a", 3, 4))
    report.store("zen4-avx512", "peers-zoo", first)
    path = report.store("ice-lake-sp-avx512", "peers-zoo", second)
    report.store("ice-lake-sp-avx512", "peers-small", first)
    assert path == results / "ice-lake-sp-avx512" / "peers-zoo.json"
    assert json.loads(path.read_text()) == second
    assert report.stored("peers-zoo") == {"ice-lake-sp-avx512": second, "zen4-avx512": first}


def test_a_case_taken_anew_replaces_its_own_alone() -> None:
    old = run(row("a", 1, 2), row("b", 1, 2), row("b", 1, 2, threads=2), row("gone", 1, 2), others_cores=0.3)
    old["engines"]["tract"] = {"held_to_v3": True}
    new = run(row("b", 5, 6, **taken("abc")), date="2026-11-20T10:00:00+00:00")
    merged = report.merged(old, new, [("b", 1, 1), ("a", 1, 1), ("b", 1, 2), ("never run", 1, 1)])
    assert [(r["network"], r["threads"]) for r in merged["cases"]] == [("b", 1), ("a", 1), ("b", 2)]
    assert [report.median_us(r, "fastconv") for r in merged["cases"]] == [5, 1, 1]
    assert [r["taken"]["date"][:10] for r in merged["cases"]] == ["2026-11-01", "2026-11-09", "2026-11-09"]
    assert merged["cases"][1]["taken"] == {
        "date": old["date"], "commit": None, "rounds": 10, "versions": {"ncnn": "0.9"}, "load_at_start": 0.1,
        "others_cores": 0.3,
    }  # fmt: skip
    assert list(merged["engines"]) == ["fastconv", "ncnn", "tract"]
    assert merged["date"] == new["date"]


def test_the_first_piece_of_a_suite_needs_nothing_stored() -> None:
    new = run(row("b", 5, 6, **taken("abc")), row("a", 5, 6, **taken("abc")))
    merged = report.merged(None, new, [("a", 1, 1), ("b", 1, 1)])
    assert [r["network"] for r in merged["cases"]] == ["a", "b"]


def test_the_section_shows_each_processor_losses_too(results: Path) -> None:
    cases = (row("a", 100, 150, **taken("abc", day=2)), row("b", 100, 81, **taken("def", day=3, others=0.4, rounds=10)))
    report.store("zen4-avx2", "peers-zoo", run(*cases))
    report.store("zen4-avx512", "peers-zoo", run(row("a", 50, 100)))
    report.store("zen4-avx512", "peers-zoo-v3", run(row("a", 50, 60, **taken("abc"))))
    (results / "zen4-avx2" / "peers-zoo.png").touch()
    text = report.readme_section()
    assert text.index("`zen4-avx2`**") < text.index("`zen4-avx512`**")
    assert "| a | 1 | 1 | **100** | ncnn 150 | – | **1.50** | 1.25 | yes |" in text
    assert "| b | 1 | 1 | **100** | ncnn 81.0 | – | **0.81** | 1.25 | no |" in text
    assert "2 cores of A CPU (`zen4-avx2`), 2026-11-02 to 2026-11-03 (commits abc, def)" in text
    assert "in 4 to 10 rounds" in text
    assert "others kept up to 0.4 cores busy" in text
    assert "ncnn 1.0." in text, "an engine without a version is not listed"
    assert "(benchmarks/results/zen4-avx2/peers-zoo.png)" in text
    assert "zen4-avx512/peers-zoo.png" not in text
    assert "| **50.0** | ncnn 100 | – | **2.00** | 1.25 | yes | 1.20 |" in text
    assert "2026-11-01 (commit abc); ncnn offer no such setting" in text


def test_a_run_without_commits_says_its_day(results: Path) -> None:
    report.store("zen4-avx2", "peers-zoo", run(row("a", 1, 2)))
    assert "(`zen4-avx2`), 2026-11-09, float32" in report.readme_section()
    assert "in 10 rounds" in report.readme_section()


def test_rewriting_the_readme(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 1, "nothing is stored"
    report.store("zen4-avx2", "peers-zoo", run(row("a", 1, 2)))
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    assert report.main(["--check"]) == 0
    text = report.README.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n**Networks at 224x224, `zen4-avx2`**")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "no peers-zoo.json" not in capsys.readouterr().out


def test_a_section_needs_results(results: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lightness\.json"):
        report.section("lightness", lambda cpu, run: "")


def test_every_network_of_a_suite_is_known() -> None:
    for suite in nets.SUITES.values():
        assert {case.network for case in suite} <= set(nets.NETWORKS)
        keys = [(case.network, case.batch, case.threads) for case in suite]
        assert len(keys) == len(set(keys))
    assert len({case.network for case in nets.SUITES["zoo"]}) == 14


def place(chosen: float, others: dict[str, list[float]], count: int = 1) -> network.Place:
    found = network.Place("layer", "3x3", ["direct", *others], count)
    found.seconds = {"direct": [chosen] * 3, **{name: [chosen - s for s in saved] for name, saved in others.items()}}
    found.saved, found.network_seconds = others, [10.0, 20.0, 90.0]
    return found


def test_what_an_exchange_would_gain() -> None:
    slower = place(4.0, {"packed": [-1.0, -2.0, 3.0]})
    assert (slower.fastest, slower.gain) == ("direct", 0.0)
    faster = place(4.0, {"packed": [1.0, 1.0, -9.0], "pixels": [2.0, 0.5, 2.0]}, count=3)
    assert (faster.fastest, faster.gain) == ("pixels", pytest.approx(3 * 2.0 / 20.0))
    assert place(4.0, {"packed": [0.1, 0.1, 0.1]}).fastest == "direct", "too little to tell"
    assert faster.as_json()["kernels"]["pixels"] == {"median_us": pytest.approx(2e6), "min_us": pytest.approx(2e6)}


def test_what_an_exchange_touches() -> None:
    base = {"input": ("to NHWC",), "conv1": ("zero_border", "direct tile"), "conv2": ("direct tile",)}
    trial = {"conv1": ("pixels",), "conv2": ("direct tile",), "pool": ("max pool",)}
    assert network.changed("conv2", base, trial) == {"input", "conv1", "conv2", "pool"}
    assert network.changed("conv2", base, base) == {"conv2"}


def test_layers_of_one_kind_are_tried_once() -> None:
    graph = optimize(vgg())
    found = network.places(graph, "", 1)
    convolutions = [node for node in graph.nodes if node.op == "conv2d"]
    assert sum(place.count for place in found) == len(convolutions)
    assert all(place.kernels[0] == place.chosen and len(set(place.kernels)) > 1 for place in found)
    assert network.places(graph, "no such name", 1) == []


def test_exchanging_kernels_of_lenet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("threadpoolctl")
    out = tmp_path / "lenet.json"
    assert network.main(["lenet", "--quick", "--json", str(out)]) == 0
    layers = json.loads(out.read_text())["layers"]
    assert [layer["layer"] for layer in layers] == ["conv1.pool", "conv2.pool"]
    assert all(kernel["min_us"] > 0 for layer in layers for kernel in layer["kernels"].values())
    assert "direct" in layers[0]["kernels"]
    assert network.main(["no such network"]) == 1
    assert "neither a .npz file" in capsys.readouterr().err


def test_what_a_pick_loses() -> None:
    assert kernels_rules.lost({"direct": 2.0, "pixels": 3.0}, "pixels") == pytest.approx(0.5)
    assert kernels_rules.lost({"direct": 2.0, "pixels": 3.0}, "direct") == 0.0


def test_a_twin_runs_just_before_the_layer_with_weights_of_its_own() -> None:
    graph = optimize(vgg())
    node = [node for node in graph.nodes if node.op == "conv2d"][3]
    layer = kernels_layers.with_twin(kernels_layers.alone(graph, node))
    twin, last = layer.nodes[-2:]
    assert (twin.name, last.name, twin.inputs) == (kernels_layers.TWIN, node.name, last.inputs)
    assert not np.shares_memory(twin.weights["weight"], last.weights["weight"])
    program = compile_graph(layer, threads=1, kernel="direct")
    nodes = [step["node"] for step in program.steps]
    assert nodes.index(kernels_layers.TWIN) < nodes.index(node.name)
    x = np.random.default_rng(0).standard_normal((1, *layer.input_shape), np.float32)
    outputs = program.run_all((x,))
    np.testing.assert_array_equal(*outputs)


def test_cold_times_leave_out_the_twin() -> None:
    rule = kernels_rules.prepare(next(kernels_rules.graphs()))
    assert {trial.algorithm for trial in rule.layer.trials} <= set(kernels_rules.WEIGHED)
    for trial in rule.layer.trials:
        assert trial.cold is not None
        assert trial.cold.burst() > 0
    assert not rule.judged_cold
    graph = kernels_layers.with_twin(rule.layer.graph)
    program = compile_graph(graph, threads=1, kernel="direct")
    timed = [program.steps[k] for k in kernels_layers._steps(program, "")]
    assert rule.layer.graph.outputs[0] in {step["node"] for step in timed}
    assert kernels_layers.TWIN not in {step["node"] for step in timed}
    assert kernels_layers.BACK not in {step["label"] for step in timed}


@pytest.mark.parametrize("name", ["mnasnet1_0", "mobilenet_v3_small"])
def test_untrained_networks_are_the_same_each_time_and_stay_in_range(name: str) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import_torchvision()
    net = nets.build(name)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        y, again = net(x), nets.build(name)(x)
    assert not net.training
    assert torch.equal(y, again)
    assert 0.05 < float(y.std()) < 20
    assert float((y[0] - y[1]).abs().max()) > 1e-3 * float(y.abs().max()), "the output does not depend on the image"
