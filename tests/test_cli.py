"""The command line: through click's runner, and once as the process that a user starts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv

click_testing = pytest.importorskip("click.testing")
rich_console = pytest.importorskip("rich.console")
Image = pytest.importorskip("PIL.Image")

from fastconv.cli import bench as bench_command  # noqa: E402  # they need the extra
from fastconv.cli import terminal, timing  # noqa: E402
from fastconv.cli.commands import cli  # noqa: E402
from fastconv.formats.architectures import plan_of  # noqa: E402
from fastconv.graph.builder import GraphBuilder  # noqa: E402
from fastconv.graph.preprocessing import Preprocessing  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
LENET = str(ROOT / "models" / "lenet.npz")
DIGITS = ROOT / "examples" / "digits"
PARAMETERS = 44_426
MACS = 281_640


def run(*args: object) -> click_testing.Result:
    try:
        runner = click_testing.CliRunner(mix_stderr=False)
    except TypeError:  # since click 8.2 they are always apart
        runner = click_testing.CliRunner()
    result = runner.invoke(cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: click_testing.Result) -> str:
    """The one line on standard error of a command that did nothing."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


# --- predict --------------------------------------------------------------------------------------


def test_predict_prints_a_row_for_each_image() -> None:
    files = [DIGITS / f"{digit}.png" for digit in range(10)]
    result = run("predict", LENET, *files)
    assert (result.exit_code, result.stderr) == (0, "")
    model = fastconv.load(LENET)
    for digit, (file, line) in enumerate(zip(files, result.stdout.splitlines(), strict=True)):
        name, label, share, bar = line.split()
        assert (name, label) == (str(file), str(digit))
        probability = model.predict_proba(file)[digit]
        assert share == f"{probability:.1%}"
        assert len(bar) == 24
        assert bar.count(bar[0]) == round(24 * probability)


def test_predict_top_lists_the_best_classes_best_first() -> None:
    result = run("predict", LENET, DIGITS / "3.png", "--top", 3)
    shares = fastconv.load(LENET).predict_proba(DIGITS / "3.png")
    labels = [line.replace(str(DIGITS / "3.png"), "").split()[0] for line in result.stdout.splitlines()]
    assert labels == [str(i) for i in np.argsort(-shares)[:3]]


def test_predict_json() -> None:
    result = run("predict", LENET, DIGITS / "7.png", DIGITS / "none.png", "--top", 99, "--json")
    good, bad = json.loads(result.stdout)
    shares = fastconv.load(LENET).predict_proba(DIGITS / "7.png")
    assert good["file"] == str(DIGITS / "7.png")
    assert [row["index"] for row in good["predictions"]] == np.argsort(-shares).tolist()
    assert good["predictions"][0] == {"index": 7, "label": 7, "probability": float(shares[7])}
    assert bad == {"file": str(DIGITS / "none.png"), "error": "no such file"}
    assert result.exit_code == 1


def test_predict_prints_labels(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    net[1].weight.data[:] = torch.tensor([[-1.0], [1.0]])
    model = fastconv.from_torch(net, (1, 2, 2), labels=["dark", "猫 [bold]"])
    model.save(tmp_path / "model.npz")
    Image.new("L", (2, 2), 255).save(tmp_path / "white.png")
    result = run("predict", tmp_path / "model.npz", tmp_path / "white.png")
    assert "  猫 [bold]  " in result.stdout
    (row,) = json.loads(run("predict", tmp_path / "model.npz", tmp_path / "white.png", "--json").stdout)
    assert row["predictions"][0]["label"] == "猫 [bold]"


def test_predict_goes_on_after_bad_images(tmp_path: Path) -> None:
    whole = (DIGITS / "4.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    Image.new("L", (30, 20)).save(tmp_path / "large.png")
    Image.new("I;16", (28, 28)).save(tmp_path / "deep.png")
    names = ["none.png", "cut.png", "text.png", "empty", "large.png", "deep.png"]
    result = run("predict", LENET, *(tmp_path / name for name in names), DIGITS / "4.png")
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.split()[:2] == [str(DIGITS / "4.png"), "4"]
    *errors, total = result.stderr.splitlines()
    for name, error in zip(names, errors, strict=True):
        assert error.startswith(f"Error: {tmp_path / name}: ")
    assert "no such file" in errors[0]
    assert "no readable images in this folder" in errors[3]
    assert "30x20 pixels, the network takes 28x28" in errors[4]
    assert "mode 'I;16'" in errors[5]
    assert total == "6 of 7 images failed"


def test_predict_takes_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.PNG", "deep/c.png", "star[*].png"):
        (tmp_path / name).write_bytes((DIGITS / "1.png").read_bytes())
    (tmp_path / "notes.txt").write_text("not taken from a folder")

    def files(*names: object) -> list[str]:
        rows = json.loads(run("predict", LENET, *names, "--json").stdout)
        return [Path(row["file"]).relative_to(tmp_path).as_posix() for row in rows]

    assert files(tmp_path) == ["a.PNG", "b.png", "star[*].png"]
    assert files(tmp_path / "**" / "*.png") == ["b.png", "deep/c.png", "star[*].png"]
    assert files(tmp_path / "star[*].png") == ["star[*].png"]
    assert files(tmp_path / "deep", tmp_path / "b.png") == ["deep/c.png", "b.png"]


def test_predict_resizes_when_asked(tmp_path: Path) -> None:
    with Image.open(DIGITS / "5.png") as image:
        image.resize((140, 140)).save(tmp_path / "large.png")
    result = run("predict", LENET, tmp_path / "large.png", "--resize")
    assert result.exit_code == 0
    assert result.stdout.split()[1] == "5"


def test_predict_and_info_follow_the_model_s_preprocessing(tmp_path: Path) -> None:
    graph = fastconv.load(LENET).graph.replace(preprocessing=Preprocessing(resize_size=30, crop_size=28, mean=(0.1,)))
    fastconv.Model(graph).save(tmp_path / "model.npz")
    with Image.open(DIGITS / "5.png") as image:
        image.resize((150, 140)).save(tmp_path / "large.png")
    result = run("predict", tmp_path / "model.npz", tmp_path / "large.png", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (best,) = json.loads(result.stdout)[0]["predictions"]
    model = fastconv.load(tmp_path / "model.npz")
    assert [(best["label"], best["probability"])] == model.predict(tmp_path / "large.png", top=1)
    assert best["label"] == 5
    line = "images: resize shorter side to 30 (bilinear), center crop 28x28, scale 1/255, mean 0.1, std 1"
    assert line in run("info", tmp_path / "model.npz").stdout
    record = json.loads(run("info", tmp_path / "model.npz", "--json").stdout)
    assert record["preprocessing"] == {"resize_size": 30, "crop_size": [28, 28], "mean": [0.1], "std": [1.0]}
    assert json.loads(run("info", LENET, "--json").stdout)["preprocessing"] is None


def test_predict_shows_nan_instead_of_a_bar(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    net[1].bias.data[:] = float("nan")
    fastconv.from_torch(net, (1, 2, 2)).save(tmp_path / "model.npz")
    Image.new("L", (2, 2)).save(tmp_path / "black.png")
    assert run("predict", tmp_path / "model.npz", tmp_path / "black.png").stdout.split()[-1] == "nan"
    result = run("predict", tmp_path / "model.npz", tmp_path / "black.png", "--json")
    assert json.loads(result.stdout)[0]["predictions"][0]["probability"] is None


# --- info and config ------------------------------------------------------------------------------


def test_info_prints_the_layers_and_totals() -> None:
    result = run("info", LENET)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert {"conv1", "conv2", "fc1", "fc2", "fc3"} <= set(lines)
    assert lines["conv1"].split("  ")[0].strip() == "conv1"
    for cell in ("conv2d + relu + max_pool2d", "6x12x12", "156", "86,400", "6x6"):
        assert f" {cell} " in lines["conv1"]
    assert lines["total"].split() == ["total", f"{PARAMETERS:,}", f"{MACS:,}"]


def test_info_json_adds_up() -> None:
    record = json.loads(run("info", LENET, "--json").stdout)
    assert (record["input_shape"], record["output_shapes"]) == ([1, 28, 28], [[10]])
    assert record["parameters"] == sum(row["parameters"] for row in record["layers"]) == PARAMETERS
    assert record["macs"] == sum(row["macs"] for row in record["layers"]) == MACS


def test_convert_writes_the_same_model(tmp_path: Path) -> None:
    result = run("convert", LENET, tmp_path / "copy.npz")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"1x28x28 -> 10, {PARAMETERS:,} parameters" in result.stdout
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(fastconv.load(tmp_path / "copy.npz")(x), fastconv.load(LENET)(x))
    assert run("convert", LENET, tmp_path / "named.npz", "--architecture", "lenet").exit_code == 0
    assert "architecture must be one of lenet, " in error_of(
        run("convert", LENET, tmp_path / "x.npz", "--architecture", "warp")
    )
    record = json.loads(run("convert", LENET, tmp_path / "again.npz", "--json").stdout)
    assert (record["parameters"], record["output_shapes"]) == (PARAMETERS, [[10]])
    assert record["bytes"] == (tmp_path / "again.npz").stat().st_size


def test_convert_writes_npz_only(tmp_path: Path) -> None:
    assert "models are written as .npz files" in error_of(run("convert", LENET, tmp_path / "copy.onnx"))
    assert not list(tmp_path.iterdir())


def test_onnx_files(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    relu = onnx.helper.make_node("Relu", ["x"], ["y"], name="act")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", 7)) for name in "xy"]
    graph = onnx.helper.make_graph([relu], "net", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    assert "act" in run("info", tmp_path / "net.onnx").stdout
    result = run("convert", tmp_path / "net.onnx", tmp_path / "net.npz")
    assert (result.exit_code, result.stderr) == (0, "")
    assert fastconv.load(tmp_path / "net.npz")([[1, -1, 0, 2, -2, 3, 4]]).tolist() == [[1, 0, 0, 2, 0, 3, 4]]


def test_config_is_show_config() -> None:
    expected = fastconv.show_config()
    assert json.loads(run("config", "--json").stdout) == expected
    text = run("config").stdout
    assert f"isa            {expected['isa']}" in text.splitlines()


# --- bench ----------------------------------------------------------------------------------------


def bench(tmp_path: Path, *args: object) -> tuple[click_testing.Result, dict[str, Any]]:
    file = tmp_path / "figures.json"
    result = run("bench", LENET, "--seconds", 0.05, "--json", file, *args)
    return result, json.loads(file.read_text()) if file.exists() else {}


def test_bench_times_both_engines(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    result, report = bench(tmp_path, "--batch", 1, "--batch", 3, "--threads", 1, "--layers")
    assert result.exit_code == 0
    assert torch.get_num_threads() == before
    assert report["config"] == fastconv.show_config() | {"torch": torch.__version__}
    cases = [(row["engine"], row["batch"], row["threads"]) for row in report["timings"]]
    assert cases == [("fastconv", 1, 1), ("torch", 1, 1), ("fastconv", 3, 1), ("torch", 3, 1)]
    for row in report["timings"]:
        assert row["calls"] >= timing.MIN_ROUNDS
        assert 0 < row["minimum_s"] <= row["median_s"]
        assert row["images_per_s"] == pytest.approx(row["batch"] / row["median_s"])
    rows = [line.split() for line in result.stdout.splitlines()]
    ours, theirs = report["timings"][:2]
    (row,) = [row for row in rows if row[:3] == ["1", "1", "fastconv"]]
    assert row[-1] == f"{theirs['median_s'] / ours['median_s']:.3g}x"
    assert ["3", "torch"] not in [row[1:3] for row in rows]  # the case is named once
    assert any(row and row[0] == "total:" for row in rows)  # the profile's last line


def test_bench_works_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result, report = bench(tmp_path, "--batch", 2, "--threads", 1)
    assert result.exit_code == 0
    assert "pip install torch" in result.stderr
    assert [row["engine"] for row in report["timings"]] == ["fastconv"]
    assert "torch" not in report["config"]


def test_bench_times_no_wrong_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    class Wrong(torch.nn.Module):
        def __init__(self, net: torch.nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * (1 + 2 * timing.TOLERANCE)

    right = timing.torch_net
    monkeypatch.setattr(bench_command, "torch_net", lambda model: (Wrong(right(model)[0]), ""))
    result, report = bench(tmp_path, "--batch", 1, "--threads", 1)
    assert result.exit_code == 1
    assert "fastconv and torch differ" in result.stderr
    assert "images/s" not in result.stdout
    assert report == {}


def test_bench_writes_json_to_standard_output() -> None:
    args = ("bench", LENET, "--seconds", 0.05, "--batch", 1, "--threads", 1, "--json", "-")
    result = run(*args)
    assert json.loads(result.stdout)["model"] == LENET
    assert "images/s" in result.stderr


def test_bench_refuses_a_missing_folder_before_timing(tmp_path: Path) -> None:
    result = run("bench", LENET, "--json", tmp_path / "none" / "figures.json")
    assert result.exit_code == 2
    assert "no such folder" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.234e-6, "8.23 µs"), (99.6e-6, "99.6 µs"), (123.4e-6, "123 µs"), (9.996e-4, "1.00 ms"),
     (0.0456, "45.6 ms"), (2.5, "2.50 s"), (1234.0, "1234 s")],
)  # fmt: skip
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert bench_command._duration(seconds) == text


# --- errors, help, progress -----------------------------------------------------------------------


def test_a_bad_model_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "none.npz"
    assert error_of(run("info", missing)) == f"{missing}: No such file or directory"
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(Path(LENET).read_bytes()[:1000])
    for command in (["info", damaged], ["predict", damaged, DIGITS], ["bench", damaged]):
        assert str(damaged) in error_of(run(*command))


def test_input_shape() -> None:
    assert "pass input_shape=(1, 28, 28)" in error_of(run("info", LENET, "--input-shape", "1,32,32"))
    record = json.loads(run("info", LENET, "--input-shape", "1x28x28", "--json").stdout)
    assert record["input_shape"] == [1, 28, 28]
    result = run("info", LENET, "--input-shape", "1x28xwide")
    assert result.exit_code == 2
    assert "write it like 1x28x28" in result.stderr


def test_predict_refuses_what_is_no_classifier(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    fastconv.from_torch(torch.nn.Conv2d(1, 2, 3), (1, 8, 8)).save(tmp_path / "model.npz")
    assert "one number per class" in error_of(run("predict", tmp_path / "model.npz", DIGITS))


def test_a_dynamic_model_takes_images_of_any_size(tmp_path: Path) -> None:
    net = GraphBuilder((1, 8, 8))
    net.add("conv2d", weights={"weight": np.eye(9, dtype=np.float32).reshape(9, 1, 3, 3)})
    net.flatten(net.add("adaptive_avg_pool2d", output_size=1))
    path = tmp_path / "net.npz"
    fastconv.Model(net.graph(dynamic=True)).save(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 11), np.uint8)).save(tmp_path / "image.png")
    result = run("predict", path, tmp_path / "image.png", DIGITS / "7.png", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    model = fastconv.load(path)
    for record in json.loads(result.stdout):
        assert record["predictions"][0]["label"] == model.predict(record["file"])
    assert "1x8x8 -> 9, other sizes too, " in run("info", path).stdout
    assert json.loads(run("info", path, "--json").stdout)["dynamic"] is True
    before = Preprocessing(resize_size=9, crop_size=8)
    fastconv.Model(model.graph.replace(preprocessing=before)).save(path)
    (record,) = json.loads(run("predict", path, tmp_path / "image.png", "--json").stdout)
    fixed = fastconv.Model(model.graph.replace(preprocessing=before, dynamic=False))
    (best,) = record["predictions"]
    assert [(best["label"], best["probability"])] == fixed.predict(record["file"], top=1)
    assert f"images: {before}" in run("info", path).stdout
    assert json.loads(run("info", LENET, "--json").stdout)["dynamic"] is False


def test_weights_alone_need_an_architecture(tmp_path: Path) -> None:
    keys = plan_of("vgg11").keys()
    np.savez(tmp_path / "weights.npz", **{key: np.ones((2, 2), np.float32) for key in keys})
    for command in (["info"], ["predict"], ["bench"]):
        arguments = [*command, tmp_path / "weights.npz", *([DIGITS / "0.png"] if command == ["predict"] else [])]
        assert "pass architecture='vgg11'" in error_of(run(*arguments))
        problem = error_of(run(*arguments, "--architecture", "vgg11"))
        assert "features.0.weight: vgg11 needs shape" in problem
    assert run("info", LENET, "--architecture", "lenet").stdout == run("info", LENET).stdout


@pytest.mark.parametrize("command", [[], ["predict"], ["info"], ["convert"], ["bench"], ["config"]])
def test_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout == run(*command, "-h").stdout


def test_progress_shows_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(patience: float) -> str:
        monkeypatch.setattr(terminal, "PATIENCE_S", patience)
        console = rich_console.Console(file=io.StringIO(), force_terminal=True)
        with terminal.progress("waiting", 2, console) as advance:
            advance(1)
        return console.file.getvalue()

    assert shown(1000.0) == ""
    assert "waiting" in shown(-1.0)


def start(*code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_process_that_a_user_starts() -> None:
    result = start("-m", "fastconv.cli", "predict", "models/lenet.npz", "examples/digits/8.png")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[:2] == ["examples/digits/8.png", "8"]
    result = start("-m", "fastconv.cli", "--version")
    assert result.stdout == f"fastconv {fastconv.__version__}\n"


@pytest.mark.parametrize("module", ["click", "rich", "PIL"])
def test_a_missing_extra_is_named(module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from fastconv.cli.main import main; main()"
    result = start("-c", program)
    assert result.returncode == 2
    assert 'pip install "fastconv[cli]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_the_entry_imports_nothing_of_the_extra() -> None:
    program = "import sys, fastconv.cli.main\nprint(sorted({'click', 'rich', 'PIL', 'torch'} & set(sys.modules)))"
    assert start("-c", program).stdout.strip() == "[]"


# --- tune -----------------------------------------------------------------------------------------


def test_tune_measures_and_writes_what_it_is_told_to(tmp_path: Path) -> None:
    own = tmp_path / "own.npz"
    fastconv.load(LENET).save(own)
    before = own.read_bytes()
    result = run("tune", own, "--dry-run", "--seconds", 0.05, "--threads", 1)
    assert (result.exit_code, own.read_bytes()) == (0, before)
    assert "estimated" in result.stdout
    assert "pixels" in result.stdout
    result = run("tune", own, tmp_path / "other.npz", "--seconds", 0.05, "--batch", 2, "--json")
    record = json.loads(result.stdout)
    assert record["written"] == str(tmp_path / "other.npz")
    assert record["batch"] == 2
    assert all(row["kernel"] in row["seconds"] for row in record["rows"])
    assert own.read_bytes() == before
    tuned = fastconv.load(tmp_path / "other.npz").graph.tuned
    assert tuned == ({record["machine"]: record["kernels"]} if record["kernels"] else {})


def test_tune_does_not_replace_a_file_of_another_format(tmp_path: Path) -> None:
    plain, onnx = tmp_path / "plain.npz", tmp_path / "net.onnx"
    np.savez(plain, **{"0.weight": np.zeros((2, 4), np.float32)})
    onnx.write_bytes(b"no zip")
    for path in (plain, onnx):
        message = error_of(run("tune", path, "--seconds", 0.05))
        assert message.startswith(f"{path}: is in another format; name a file to write")
    assert error_of(run("tune", LENET, "lenet.onnx")).endswith("give it a name that ends so")
    (tmp_path / "folder.npz").mkdir()
    for target in (tmp_path / "folder.npz", tmp_path / "none" / "a.npz"):
        assert error_of(run("tune", LENET, target)).startswith(f"{target}: cannot be written")
    assert "make another model" in error_of(run("tune", LENET, "--input-shape", "1x28x28"))
