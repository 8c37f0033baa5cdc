"""Training, step by step beside PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import build, op

import fastconv
from fastconv.errors import ArgumentError, DTypeError, ModelFormatError, ShapeError, UnsupportedOperatorError
from fastconv.graph import INPUT, Graph, Node
from fastconv.train import SGD, Adam, AdamW, Network, Progress, Trainer, cosine, step_decay, warmup

torch = pytest.importorskip("torch")
nn = torch.nn

LOSS, WEIGHT = 1e-4, 1e-5
RNG = np.random.default_rng(0)


class Residual(nn.Module):
    """Convolutions, batch norm, a sum, every kind of pooling of a ResNet, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding="same", groups=2)
        self.bn2 = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = torch.max_pool2d(torch.relu(self.bn(self.stem(x))), 3, 2, 1)
        x = torch.relu(x + self.bn2(self.conv(x)))
        return self.fc(self.pool(x).flatten(1))


def lenet() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


NETWORKS = {"lenet": (lenet, (1, 28, 28), 10), "residual": (Residual, (3, 13, 12), 5)}
OPTIMIZERS = {
    "sgd": (SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "momentum": (
        SGD(0.02, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-3),
    ),
    "nesterov": (
        SGD(0.02, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    ),
    # A larger eps: where gradients are rounding alone, as of a bias before a batch norm, Adam makes steps of them.
    "adam": (
        Adam(1e-3, (0.8, 0.99), 1e-4, 1e-2),
        lambda p: torch.optim.Adam(p, 1e-3, (0.8, 0.99), 1e-4, weight_decay=1e-2),
    ),
    "adamw": (
        AdamW(1e-3, eps=1e-4, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 1e-3, eps=1e-4, weight_decay=0.1),
    ),
}


def made(name: str) -> tuple[Any, Graph, Any]:
    """Return a network in PyTorch, its Graph, and a function of a seed that draws a batch."""
    make, shape, classes = NETWORKS[name]
    torch.manual_seed(0)
    net = make()
    graph = fastconv.from_torch(net.eval(), shape).graph

    def batch(seed: int, count: int = 9) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((count, *shape), np.float32), rng.integers(0, classes, count)

    return net.train(), graph, batch


def torch_step(net: Any, optimizer: Any, x: Any, y: Any) -> float:
    loss = nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def weights_of(graph: Graph) -> list[Any]:
    """Return a Graph's weights and statistics, in the order of the nodes."""
    return [array for node in graph.nodes for _, array in sorted(node.weights.items())]


def assert_like(trainer: Trainer, net: Any) -> None:
    """Require PyTorch's weights and statistics."""
    shape = trainer.graph().input_shape
    expected = weights_of(fastconv.from_torch(net.eval(), shape).graph)
    net.train()
    for ours, theirs in zip(weights_of(trainer.graph()), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=WEIGHT)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_ten_steps_are_those_of_pytorch(name: str, optimizer: str) -> None:
    net, graph, batch = made(name)
    ours, theirs = OPTIMIZERS[optimizer]
    trainer, other = Trainer(graph, optimizer=ours), theirs(net.parameters())
    before = [array.copy() for array in weights_of(graph)]
    for seed in range(10):
        x, y = batch(seed)
        assert trainer.step(x, y) == pytest.approx(torch_step(net, other, x, y), abs=LOSS)
    assert_like(trainer, net)
    assert trainer.steps == 10
    for now, then in zip(weights_of(graph), before, strict=True):
        np.testing.assert_array_equal(now, then)  # the caller's are never changed
    x, _ = batch(11)
    expected = net.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(trainer.model()(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("schedule", [cosine(6, 0.1), step_decay(3, 0.5), warmup(4, cosine(4))])
def test_schedules_are_those_of_pytorch(schedule: Any) -> None:
    net, graph, batch = made("lenet")
    trainer = Trainer(graph, optimizer=SGD(0.1, momentum=0.9), schedule=schedule)
    other = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    factors = torch.optim.lr_scheduler.LambdaLR(other, schedule)
    for seed in range(8):
        x, y = batch(seed)
        assert trainer.step(x, y) == pytest.approx(torch_step(net, other, x, y), abs=LOSS)
        factors.step()
    assert_like(trainer, net)


def test_schedules_have_these_factors() -> None:
    assert [round(cosine(4)(step), 4) for step in range(6)] == [1, 0.8536, 0.5, 0.1464, 0, 0]
    assert [step_decay(2, 0.5)(step) for step in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [warmup(2, step_decay(1, 0.5))(step) for step in range(4)] == [0.5, 1, 1, 0.5]
    for wrong in (lambda: cosine(0), lambda: step_decay(1.5), lambda: warmup(True)):  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="must be a number of steps, 1 or more"):
            wrong()


def test_frozen_layers_stay_and_the_rest_is_trained() -> None:
    net, graph, batch = made("residual")
    trainer = Trainer(graph, optimizer=SGD(0.05, momentum=0.9), freeze=["stem", "bn", "conv*"])
    for module in (net.stem, net.bn, net.conv):
        module.requires_grad_(False)
    other = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05, momentum=0.9)
    assert trainer._before is not None  # a compiled network runs what is frozen
    net.bn.eval()
    for seed in range(4):
        x, y = batch(seed)
        assert trainer.step(x, y) == pytest.approx(torch_step(net, other, x, y), abs=LOSS)
    before = {name: array.copy() for name, array in trainer.parameters.items()}
    trainer.unfreeze("conv")
    trainer.freeze("*.bias")
    trainer.step(*batch(5))
    changed = {name for name, array in trainer.parameters.items() if not np.array_equal(array, before[name])}
    assert changed == {"conv.weight", "bn2.weight", "fc.weight"}


def test_batch_norm_behind_what_is_frozen_takes_the_batch() -> None:
    net, graph, batch = made("residual")
    trainer = Trainer(graph, optimizer=SGD(0.1), freeze=["stem"])
    net.stem.requires_grad_(False)
    other = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for seed in range(3):
        x, y = batch(seed)
        assert trainer.step(x, y) == pytest.approx(torch_step(net, other, x, y), abs=LOSS)
    assert_like(trainer, net)


def test_values_that_several_nodes_read_and_shared_weights() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gate = nn.Linear(6, 6), nn.Linear(6, 3), nn.PReLU()

        def forward(self, x: Any) -> Any:
            y = self.a(x)
            z = torch.cat([self.a(torch.sigmoid(y)) * y + y, x - y], 1)
            return self.b(self.gate(z.reshape(-1, 2, 6)[:, 1])) + self.b(z[:, 1::2])

    torch.manual_seed(0)
    net = Shared()
    graph = fastconv.from_torch(net.eval(), (6,)).graph
    trainer, other = Trainer(graph, optimizer=SGD(0.1)), torch.optim.SGD(net.parameters(), 0.1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((7, 6), np.float32), rng.integers(0, 3, 7)
        assert trainer.step(x, y) == pytest.approx(torch_step(net, other, x, y), abs=LOSS)
    assert len(trainer.parameters) == 5
    assert_like(trainer, net)


def test_dropout_drops_in_training_and_from_the_seed() -> None:
    net = Network((400,))
    net.add("dropout", p=0.25)
    drop = net.last
    net.linear(1, bias=False)
    graph = net.graph()
    x = np.ones((50, 400), np.float32)
    seen: list[Any] = []

    def loss(output: Any, target: Any) -> tuple[float, Any]:
        seen.append(output.copy())
        return 0.0, np.zeros_like(output)

    for seed in (1, 1, 2):
        Trainer(graph, loss, SGD(0.1), seed=seed).step(x, 0)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    weight = graph.nodes[1].weights["weight"]
    # The expectation is that without dropout: within four standard deviations of the mean over 50 images.
    deviation = np.sqrt((weight**2).sum() * 0.25 / 0.75 / 50)
    assert abs(seen[0].mean() - weight.sum()) < 4 * deviation
    assert seen[0].std() > 0
    Trainer(graph, loss, SGD(0.1), freeze=[drop]).step(x, 0)
    assert np.ptp(seen[3]) < 1e-5


def test_mse_and_a_loss_of_ones_own() -> None:
    net = Network((4,), seed=3)
    net.linear(2)
    x, y = RNG.standard_normal((8, 4), np.float32), RNG.standard_normal((8, 2), np.float32)

    def own(output: Any, target: Any) -> tuple[float, Any]:
        return float(((output - target) ** 2).mean()), 2 * (output - target) / output.size

    first, second = Trainer(net.graph(), "mse", SGD(0.1)), Trainer(net.graph(), own, SGD(0.1))
    for _ in range(5):
        assert first.step(x, y) == pytest.approx(second.step(x, y), rel=1e-5)
    for ours, theirs in zip(first.parameters.values(), second.parameters.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert first.evaluate(x, y).accuracy is None
    with pytest.raises(ShapeError, match=r"mse: y must have the output's shape \(8, 2\), got \(8,\)"):
        first.step(x, y[:, 0])
    with pytest.raises(ShapeError, match=r"gradient must be like the output, \(8, 2\), got \(1,\)"):
        Trainer(net.graph(), lambda a, b: (0.0, np.ones(1))).step(x, y)


def blobs(count: int = 200) -> tuple[Any, Any]:
    """Points around three centres, with their class."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, count)
    return (np.eye(3, 4)[y] * 3 + rng.standard_normal((count, 4))).astype(np.float32), y


def small(**settings: Any) -> Trainer:
    net = Network((4,), seed=1)
    net.linear(16)
    net.relu()
    net.dropout(0.1)
    net.linear(3)
    return Trainer(net.graph(labels=["a", "b", "c"]), optimizer=Adam(0.01), **settings)


def test_fit_learns_and_says_how() -> None:
    x, y = blobs()
    trainer, seen = small(), list[Progress]()
    history = trainer.fit(x, y, 12, batch_size=32, validation=(x, y), progress=seen.append)
    assert [epoch.epoch for epoch in history] == list(range(1, 13))
    assert len(history[0].losses) == 7  # the last batch has what is left
    assert history[-1].loss < history[0].loss / 3
    assert history[-1].validation is not None
    assert history[-1].validation.accuracy > 0.9  # type: ignore[operator]
    assert trainer.steps == len(seen) == 84
    assert seen[-1] == Progress(12, 12, 7, 7, history[-1].losses[-1])
    model = trainer.model()
    assert model.labels == ("a", "b", "c")
    assert trainer.evaluate(x, y).accuracy == np.mean(model(x).argmax(1) == y)
    expected = float(nn.functional.cross_entropy(torch.from_numpy(model(x)), torch.from_numpy(y)))
    assert trainer.evaluate(x, y, batch_size=33).loss == pytest.approx(expected, rel=1e-4)


def test_a_seed_gives_the_same_training(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = blobs(50)
    first, second = small(), small(seed=9)
    assert first.fit(x, y, 2, seed=4)[-1].losses == second.fit(x, y, 2, seed=4, progress=True)[-1].losses
    assert "epoch 2/2 [########################] 1/1 loss " in capsys.readouterr().err


def test_a_loss_that_is_nan_goes_on_and_shows() -> None:
    x, y = blobs(20)
    x[3, 0] = np.nan
    history = small().fit(x, y, 1, batch_size=10)
    assert np.isnan(history[0].loss)


@pytest.mark.parametrize("frozen", [(), ("linear", "linear#2.bias")])
def test_training_goes_on_from_a_checkpoint(tmp_path: Path, frozen: tuple[str, ...]) -> None:
    x, y = blobs()
    whole, first = small(freeze=frozen), small(freeze=frozen)
    whole.fit(x, y, 4, 64)
    first.fit(x, y, 2, 64)
    first.save(tmp_path / "half.npz")
    again = Trainer.load(tmp_path / "half.npz")
    assert (again.steps, again.epochs, again.optimizer, again.frozen) == (8, 2, Adam(0.01), first.frozen)
    again.fit(x, y, 2, 64)
    assert again.graph().labels == ("a", "b", "c")
    for ours, theirs in zip(weights_of(again.graph()), weights_of(whole.graph()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (again.steps, again.epochs) == (16, 4)


def test_checkpoints_that_are_none_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    trainer = small()
    trainer.model().save(path)
    with pytest.raises(ModelFormatError, match=r"model\.npz: is no checkpoint; read a model with fastconv\.load"):
        Trainer.load(path)
    trainer.fit(*blobs(20), 1)
    trainer.save(path)
    data = path.read_bytes()
    for old, new in ((b'"Adam"', b'"Mada"'), (b'"steps"', b'"spets"'), (b'"PCG64"', b'"PCG65"')):
        assert old in data
        with np.load(path) as arrays:
            held = dict(arrays)
        held["training"] = np.frombuffer(held["training"].tobytes().replace(old, new), np.uint8)
        np.savez(tmp_path / "damaged.npz", **held)
        with pytest.raises(ModelFormatError, match="the checkpoint is damaged"):
            Trainer.load(tmp_path / "damaged.npz")
    with np.load(path) as arrays:
        held = dict(arrays)
    held["training/0/mean"] = np.zeros((2, 2), np.float32)
    np.savez(tmp_path / "damaged.npz", **held)
    with pytest.raises(ModelFormatError, match=r"mean of linear#2\.weight has shape \(2, 2\)"):
        Trainer.load(tmp_path / "damaged.npz")


def test_functions_are_given_again_to_what_was_loaded(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    own = lambda output, target: (0.0, np.zeros_like(output))  # noqa: E731
    small(loss=own, schedule=cosine(3)).save(path)
    with pytest.raises(ArgumentError, match="a loss of your own; pass loss="):
        Trainer.load(path)
    with pytest.raises(ArgumentError, match="saved with a schedule; pass schedule="):
        Trainer.load(path, loss=own)
    assert Trainer.load(path, loss=own, schedule=cosine(3)).loss is own


def test_a_node_without_a_gradient_is_refused_unless_what_is_before_is_frozen() -> None:
    net = Network((4,))
    net.linear(4)
    mask = net.add("gt", net.last, weights={"other": np.zeros(1, np.float32)}, name="mask")
    net.linear(3, mask)
    with pytest.raises(UnsupportedOperatorError, match="mask: gt has no gradient; freeze what has weights before it"):
        Trainer(net.graph())
    trainer = Trainer(net.graph(), freeze=["linear"])
    trainer.step(*blobs(9))
    frozen = trainer.frozen
    with pytest.raises(UnsupportedOperatorError, match="mask: gt has no gradient"):
        trainer.unfreeze("linear")
    assert trainer.frozen == frozen


def test_what_is_refused() -> None:
    x, y = blobs(9)
    trainer = small()
    with pytest.raises(ArgumentError, match=r"has 2 outputs, one, two; train one: .*outputs=\['one'\]"):
        Trainer(build((4,), op("one", "relu", INPUT), op("two", "abs", INPUT), outputs=("one", "two")))
    node = Node("fc", "linear", (INPUT,), {}, {"weight": np.ones((2, 4))})
    with pytest.raises(DTypeError, match="the network is float64, float32 is trained"):
        Trainer(build((4,), node))
    fused = Node("fc", "linear", (INPUT,), {"activation": ("relu",)}, {"weight": np.ones((2, 4), np.float32)})
    with pytest.raises(UnsupportedOperatorError, match="fc: linear has no gradient with what was fused into it"):
        Trainer(build((4,), fused))
    with pytest.raises(ArgumentError, match="loss must be cross_entropy or mse or a callable, got 'hinge'"):
        small(loss="hinge")
    with pytest.raises(ArgumentError, match="optimizer must be SGD"):
        Trainer(trainer.graph(), optimizer="sgd")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"freeze: 'features\.\*' names no node or weight of linear, linear#2"):
        trainer.freeze("features.*")
    with pytest.raises(ShapeError, match=r"input must be \(N, 4\), N > 0, got shape \(9, 3\)"):
        trainer.step(x[:, :3], y)
    with pytest.raises(DTypeError, match="input is uint8; convert pixels"):
        trainer.step(x.astype(np.uint8), y)
    with pytest.raises(ArgumentError, match="x must be a mapping of input to arrays"):
        trainer.step({"left": x}, y)
    with pytest.raises(ArgumentError, match=r"target holds 7, classes are 0\.\.2"):
        trainer.step(x, y + 7 - y)
    with pytest.raises(ShapeError, match="y must have a target for each of 9 images"):
        trainer.fit(x, y[:5], 1)
    with pytest.raises(ShapeError, match="y must have a target for each of 9 images"):
        trainer.evaluate(x, y[:5])
    trainer.freeze("linear*")
    with pytest.raises(ArgumentError, match="nothing is trained, all weights are frozen; call unfreeze"):
        trainer.step(x, y)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SGD(-1), "SGD: lr must not be negative"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs momentum"),
        (lambda: Adam(float("nan")), "Adam: lr must not be negative, nor infinite or NaN, got nan"),
        (lambda: AdamW(betas=(0.9, 1.0)), "AdamW: betas must be two numbers below 1"),
    ],
)
def test_optimizers_refuse_what_makes_no_sense(make: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()


def test_several_inputs_are_given_by_name() -> None:
    net = Network({"left": (3,), "right": (3,)}, seed=0)
    net.linear(2, net.add("mul", "left", "right"))
    trainer = Trainer(net.graph(), "mse", SGD(0.2))
    x = {name: RNG.standard_normal((40, 3), np.float32) for name in ("left", "right")}
    y = (x["left"] * x["right"])[:, :2]
    history = trainer.fit(x, y, 60, batch_size=8)
    assert history[-1].loss < 1e-4 < history[0].loss
