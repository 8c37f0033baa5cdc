"""Every engine of the side-by-side run behind one face: a network in, Python callables out.

An engine is built for one network, one batch and one thread count, in float32, and is called as
its documentation says, from Python, with a NumPy array in and a NumPy array out. Where the
documentation offers several ways to make that call, all are returned as *forms*; the run times
them and keeps the fastest, so that no engine loses by the way it was called.

Libraries are imported when their engine is built: one that is not installed costs its own line
of the table, and the variables of ``V3_ENVIRONMENT`` can be set before any of them is loaded.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[np.float32]
Call = Callable[[Array], Array]
"""x (N, C, H, W) float32 in; the outputs out, float32."""

FASTCONV = "fastconv"
TORCH_EAGER = "PyTorch eager"

V3_ENVIRONMENT = {
    "FASTCONV_ISA": "x86-64-v3",
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels, and what inductor vectorises for
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # the oneDNN inside PyTorch and OpenVINO
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "TRACT_CPU_ISA": "-avx512f,-avx512vnni",
}
"""Holds what can be held to AVX2. The engines with ``held_to_v3 = False`` offer no such setting."""


class UnavailableError(Exception):
    """The engine cannot take part in this case; the message says why."""


class UnsupportedError(Exception):
    """The engine does not support an operator of this network; the message names it."""


class Artefacts:
    """What the engines are built from, each file converted once, when an engine asks for it.

    Parameters
    ----------
    net
        The network, in evaluation mode.
    x
        The input, (N, C, H, W) float32; files are converted for exactly its shape.
    folder
        Where converted files go.
    """

    def __init__(self, net: nn.Module, x: Array, folder: Path) -> None:
        self.net = net
        self.x = x
        self.folder = folder

    @cached_property
    def example(self) -> Any:
        """The input as a torch tensor that shares its memory."""
        import torch

        return torch.from_numpy(self.x)

    @cached_property
    def traced(self) -> Any:
        """The network traced by TorchScript."""
        import torch

        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace
            return trace(self.net, self.example)

    @cached_property
    def onnx(self) -> Path:
        """The network as ONNX; input ``x``, output ``y``."""
        import torch

        path = self.folder / "net.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.net,
                (self.example,),
                str(path),
                input_names=["x"],
                output_names=["y"],
                dynamo=False,
            )
        return path

    @cached_property
    def ncnn(self) -> tuple[Path, Path]:
        """The network as ncnn's parameter and weight files, converted by pnnx in float32."""
        import pnnx

        source = self.folder / "net.pt"
        self.traced.save(str(source))
        shape = ",".join(map(str, self.x.shape))
        command = [pnnx.EXEC_PATH, source.name, f"inputshape=[{shape}]", "fp16=0"]
        subprocess.run(command, cwd=self.folder, check=True)
        return self.folder / "net.ncnn.param", self.folder / "net.ncnn.bin"

    @cached_property
    def mnn(self) -> Path:
        """The network as MNN's own file, converted from ONNX."""
        # The converter's native entry. Its command-line front, mnnconvert, sends usage reports
        # and installs a package for that into whichever Python is first on the path.
        import _tools

        path = self.folder / "net.mnn"
        arguments = ["MNNConvert", "-f", "ONNX", "--modelFile", str(self.onnx)]
        _tools.mnnconvert([*arguments, "--MNNModel", str(path), "--bizCode", "peers"])
        return path

    @cached_property
    def executorch(self) -> Path:
        """The network as ExecuTorch's program, with all of it handed to XNNPACK that XNNPACK can do."""
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        path = self.folder / "net.pte"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(self.net, (self.example,))
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        with path.open("wb") as file:
            lowered.to_executorch().write_to_file(file)
        return path


Build = Callable[[Artefacts, int], dict[str, Call]]


@dataclass(frozen=True)
class Engine:
    """One line of the table.

    Attributes
    ----------
    name
        As shown.
    package
        The distribution whose version is reported.
    settings
        What is set, for the report.
    build
        ``build(artefacts, threads)`` returns the call's forms by name.
    held_to_v3
        Whether ``V3_ENVIRONMENT`` keeps the engine off AVX-512.
    """

    name: str
    package: str
    settings: str
    build: Build = field(repr=False)
    held_to_v3: bool = True

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


def _torch_call(module: Callable[[Any], Any]) -> Call:
    """Wrap a torch callable: tensors share memory with the arrays on both sides."""
    import torch

    inference_mode, from_numpy = torch.inference_mode, torch.from_numpy

    def call(x: Array) -> Array:
        with inference_mode():
            result: Array = module(from_numpy(x)).numpy()
            return result

    return call


def _eager(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import torch

    torch.set_num_threads(threads)
    return {"module(x)": _torch_call(artefacts.net)}


def _torchscript(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(artefacts.traced)
        optimised = torch.jit.optimize_for_inference(torch.jit.freeze(artefacts.traced))
    return {
        "freeze": _torch_call(frozen),
        "freeze + optimize_for_inference": _torch_call(optimised),
    }


def _inductor(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import torch
    import torch._inductor.config as inductor_config

    torch.set_num_threads(threads)  # the generated code has the count written into it
    inductor_config.freezing = True
    inductor_config.compile_threads = 1  # no pool of compiler processes beside the timing
    torch._dynamo.reset()
    options: dict[str, dict[str, Any]] = {
        "default": {"freezing": True},
        "max_autotune + cpp_wrapper": {
            "freezing": True,
            "max_autotune": True,
            "cpp_wrapper": True,
        },
    }
    forms = {}
    for name, choice in options.items():
        compiled = torch.compile(artefacts.net, dynamic=False, options=choice)
        forms[name] = _torch_call(compiled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            forms[name](artefacts.x)
    return forms


def _onnxruntime(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(artefacts.onnx), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    shape = session.get_outputs()[0].shape
    bound = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(shape, np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_output(names[0], bound)

    def run(x: Array) -> Array:
        result: Array = session.run(names, {"x": x})[0]
        return result

    def run_bound(x: Array) -> Array:
        binding.bind_cpu_input("x", x)
        session.run_with_iobinding(binding)
        result: Array = bound.numpy()
        return result

    return {"run": run, "IO binding": run_bound}


def _openvino(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }
    compiled = openvino.Core().compile_model(str(artefacts.onnx), "CPU", settings)
    request = compiled.create_infer_request()
    tensor = openvino.Tensor

    def infer(x: Array) -> Array:
        request.set_input_tensor(tensor(x, shared_memory=True))
        request.infer()
        result: Array = request.get_output_tensor().data
        return result

    def call_model(x: Array) -> Array:
        result: Array = compiled(x)[0]
        return result

    return {"InferRequest, shared tensors": infer, "compiled(x)": call_model}


def _ncnn(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for reduced in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, reduced, False)
    for reduced in ("use_bf16_packed", "use_bf16_storage"):
        setattr(net.opt, reduced, False)
    parameters, weights = artefacts.ncnn
    net.load_param(str(parameters))
    net.load_model(str(weights))
    shape = tuple(artefacts.net(artefacts.example).shape)

    def image_by_image(x: Array) -> Array:
        out: Array = np.empty(shape, np.float32)
        for i in range(len(x)):
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(x[i]))
            out[i] = extractor.extract("out0")[1]
        return out

    def batched(x: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(x, batch_index=0))
        result: Array = extractor.extract("out0")[1].numpy(batch_index=0)
        return result

    if len(artefacts.x) == 1:
        return {"Extractor": image_by_image}
    return {"Extractor, image by image": image_by_image, "Extractor, batched Mat": batched}


def _mnn(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import MNN

    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    interpreter = MNN.Interpreter(str(artefacts.mnn))
    session = interpreter.createSession(settings)
    source = interpreter.getSessionInput(session)
    target = interpreter.getSessionOutput(session)
    runtime = MNN.nn.create_runtime_manager((settings,))
    module = MNN.nn.load_module_from_file(
        str(artefacts.mnn), ["x"], ["y"], runtime_manager=runtime, shape_mutable=False
    )
    variable = MNN.expr.placeholder(list(artefacts.x.shape), MNN.expr.NCHW)
    layout = MNN.Tensor_DimensionType_Caffe

    def run_session(x: Array) -> Array:
        source.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, layout))
        interpreter.runSession(session)
        result: Array = target.getNumpyData()
        return result

    def forward(x: Array) -> Array:
        variable.write(x)
        result: Array = module.forward([variable])[0].read()
        return result

    return {"Interpreter session": run_session, "Module": forward}


def _executorch(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    # Its documented interface has no thread setting: the pool that all its programs share is made for every core. This
    # makes another one; what was loaded before would go on using the old one, which is gone, so nothing may call it.
    portable_lib._unsafe_reset_threadpool(threads)
    path = str(artefacts.executorch)
    method = Runtime.get().load_program(path).load_method("forward")
    module = portable_lib._load_for_executorch(path)
    from_numpy = torch.from_numpy

    def execute(x: Array) -> Array:
        result: Array = method.execute((from_numpy(x),))[0].numpy()
        return result

    def forward(x: Array) -> Array:
        result: Array = module.forward((from_numpy(x),), clone_outputs=False)[0].numpy()
        return result

    return {"Method.execute": execute, "forward, outputs not cloned": forward}


def _tract(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import tract

    if threads != 1:
        raise UnavailableError("its Python binding has no thread setting and runs one thread")
    runnable = tract.onnx().load(str(artefacts.onnx)).into_model().into_runnable()
    state = runnable.spawn_state()

    def run(x: Array) -> Array:
        result: Array = state.run([x])[0].to_numpy()
        return result

    return {"State.run": run}


def _fastconv(artefacts: Artefacts, threads: int) -> dict[str, Call]:
    import fastconv

    try:
        model = fastconv.from_torch(artefacts.net, artefacts.x.shape[1:], threads=threads)
    except NotImplementedError as error:  # fastconv.UnsupportedOperatorError is one
        raise UnsupportedError(str(error)) from error
    return {"model(x)": model}


ENGINES = (
    Engine(FASTCONV, "fastconv", "from_torch(net, input_shape, threads=n)", _fastconv),
    Engine(TORCH_EAGER, "torch", "set_num_threads(n), inference_mode", _eager),
    Engine("TorchScript", "torch", "trace, freeze, inference_mode", _torchscript),
    Engine("inductor", "torch", "torch.compile, freezing, static shapes", _inductor),
    Engine(
        "ONNX Runtime",
        "onnxruntime",
        "intra_op=n, all graph optimisations",
        _onnxruntime,
        held_to_v3=False,
    ),
    Engine(
        "OpenVINO",
        "openvino",
        "threads n, precision f32, LATENCY, one stream",
        _openvino,
    ),
    Engine(
        "ncnn",
        "ncnn",
        "pnnx, num_threads=n, no fp16, no bf16",
        _ncnn,
        held_to_v3=False,
    ),
    Engine("MNN", "MNN", "numThread=n, precision high", _mnn, held_to_v3=False),
    Engine(
        "ExecuTorch",
        "executorch",
        "XNNPACK delegate, thread pool of n",
        _executorch,
        held_to_v3=False,
    ),
    Engine("tract", "tract", "State.run, one thread", _tract),
)
