"""What each compiled level module, ``fastconv.kernels.<level>._kernels``, holds.

There is no module of this name at run time: `fastconv.machine.cpu.kernels` returns the one for this CPU,
which is a `Kernels`. All of it is private to fastconv. Shapes are per batch of n images.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
_Pair: TypeAlias = Sequence[int]

class Program:
    """A compiled network: immutable, shared by threads. Each step is a dict; see kernels/program.pxi."""

    inputs: tuple[tuple[tuple[int, ...], bool], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    def __init__(
        self,
        steps: list[dict[str, Any]],
        inputs: tuple[tuple[tuple[int, ...], bool], ...],
        output_shapes: tuple[tuple[int, ...], ...],
        *,
        prologue: int,
        segments: Sequence[tuple[int, int]],
        arena: int,
        carried: int,
        scratch: int,
        shared: int,
        threads: int,
        work: int,
        double: bool,
        keep: list[Array],
        levels: Callable[[], Array] | None = None,
    ) -> None: ...
    @property
    def threads(self) -> int: ...
    @property
    def steps(self) -> list[dict[str, str]]: ...
    @property
    def workspace_bytes(self) -> int: ...
    # The outputs: one array, or a tuple of several; NotImplemented for what is no batch of the dtype.
    def __call__(self, *arrays: Any) -> Any: ...
    def run(self, x: Any) -> Any: ...
    def run_all(self, arrays: tuple[Any, ...]) -> Any: ...
    def profile(self, arrays: tuple[Any, ...], repeats: int = 1) -> list[float]: ...
    def predict(self, img: Any) -> int | None: ...

class Cache:
    """What was prepared for the functions that share it, by key; see kernels/entry.pxi."""

    entries: int
    nbytes: int
    def __init__(self, default_threads: Callable[[], int], entries: int, nbytes: int) -> None: ...
    def __len__(self) -> int: ...
    def held(self) -> int: ...
    def clear(self) -> None: ...
    def threads(self) -> int: ...

class OneOp:
    """The entry of one function."""

    def __init__(
        self,
        cache: Cache,
        prepare: Callable[[tuple[Array, ...], tuple[Any, ...], int], tuple[Callable[..., Any], int]],
        convert: Callable[[tuple[Any, ...]], tuple[Array, ...]],
        images: bool,
    ) -> None: ...
    def run(self, arrays: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any: ...

_Program: TypeAlias = Program
_Cache: TypeAlias = Cache
_OneOp: TypeAlias = OneOp

class Kernels(Protocol):
    LEVEL: str
    VECTOR: int
    NR: int
    MR: int
    PIXEL_CHANNELS: int
    PIXEL_VECTOR: int
    PANELS_AT_ONCE: int
    FEW_TILES_AT_ONCE: int
    POINTWISE_AT_ONCE: int
    REGISTERS: int
    INPUTS_AT_MOST: int
    OUTPUTS_AT_MOST: int
    STRIDED_AXES_AT_MOST: int
    STRIDED_FLOATS: int
    REDUCE_COLUMNS: int
    MOST_PLACED: int
    OPENMP: int
    # Enums by name: kinds of activation (and which of them stand in every kernel), arithmetic, reductions, memory
    # spaces, pools, orders, recurrent layers.
    ACTIVATIONS: dict[str, int]
    ARITHMETIC: dict[str, int]
    REDUCTIONS: dict[str, int]
    INLINE_ACTIVATIONS: frozenset[str]
    SPACES: dict[str, int]
    GRADIENTS: dict[str, int]
    GRID_MODES: dict[str, int]
    GRID_PADDINGS: dict[str, int]
    RECURRENT: dict[str, int]
    POOLS: dict[str, int]
    PACK_ORDERS: dict[str, int]
    # Of each Winograd scheme: step, side, stride, own (kernels/winograd.h).
    WINOGRAD: tuple[dict[str, int], ...]
    Program: type[_Program]
    Cache: type[_Cache]
    OneOp: type[_OneOp]

    def bind_blas(self, sgemm: int, dgemm: int, bits: int) -> None: ...
    def pause_threads(self) -> None: ...
    def address(self, array: Array) -> int: ...
    def packed_size(self, order: int, groups: int, channels: int, k: int) -> int: ...
    def pack_array(self, order: int, groups: int, weight: Array) -> Array: ...
    def winograd_size(self, scheme: int, channels: int, inputs: int) -> int: ...
    def pack_winograd(self, scheme: int, weight: Array) -> Array: ...
    def pool_windows(
        self,
        size: int,
        kernel: int,
        stride: int,
        padding: int,
        dilation: int,
        out: int,
        count_include_pad: bool,
    ) -> npt.NDArray[np.intp]: ...
    def adaptive_windows(self, size: int, out: int) -> npt.NDArray[np.intp]: ...
    def max_pool_indices(
        self,
        x: Array,
        rows: npt.NDArray[np.intp],
        cols: npt.NDArray[np.intp],
        dh: int,
        dw: int,
        threads: int,
        regular: npt.NDArray[np.intp] | None = None,
    ) -> tuple[Array, npt.NDArray[np.int64]]: ...
    def not_finite(self, x: Array, threads: int) -> npt.NDArray[np.bool_] | None: ...
    def plane_means(self, x: Array, threads: int) -> Array: ...
    def take(
        self,
        x: Array,
        sizes: tuple[int, ...],
        positions: tuple[npt.NDArray[np.intp] | None, ...],
        shape: tuple[int, ...],
        value: float,
        threads: int,
    ) -> Array: ...
    # NotImplemented where an array is not what the function takes as it is.
    def linear_rows(self, x: Any, weight: Any, bias: Any, threads: int) -> Any: ...
    def unfold(
        self,
        x: Array,
        kernel: _Pair,
        dilation: _Pair,
        padding: _Pair,
        stride: _Pair,
        blocks: _Pair,
        threads: int,
    ) -> Array: ...
    def fold(
        self,
        x: Array,
        output_size: _Pair,
        kernel: _Pair,
        dilation: _Pair,
        padding: _Pair,
        stride: _Pair,
        blocks: _Pair,
        threads: int,
    ) -> Array: ...
    # On the caller's memory in its own order. NotImplemented for what is no aligned native float32 or float64 ndarray,
    # dense (elementwise: in any order of axes, the others: C-contiguous).
    def elementwise(self, kind: int, x: Any, a: float, b: float, threads: int) -> Any: ...
    def batch_norm(self, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float, threads: int) -> Any: ...
    def softmax_axis(self, x: Any, axis: int, log: bool, threads: int) -> Any: ...
    # NotImplemented for what is none of the arrays and numbers that the function takes, or does not broadcast.
    def broadcast(self, kind: int, numbers: int, truths: bool, x: Any, z: Any, condition: Any, threads: int) -> Any: ...
    def join(self, arrays: tuple[Array, ...], shape: tuple[int, ...], outer: int) -> Any: ...
    def products(self, x: Array, z: Array, y: Array, plan: npt.NDArray[np.int64], threads: int) -> None: ...
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        y: Array,
        plan: npt.NDArray[np.int64],
        scale: float,
        threads: int,
    ) -> None: ...
    # Gradients; all arrays are C-contiguous and of one type, see kernels/gradient.pxi.
    def conv_weight(
        self,
        x: Array,
        g: Array,
        places: npt.NDArray[np.intp],
        plan: npt.NDArray[np.int64],
        y: Array,
        threads: int,
    ) -> None: ...
    def activation_gradient(self, kind: int, x: Array, g: Array, a: float, b: float, threads: int) -> Array: ...
    def pool_gradient(
        self,
        g: Array,
        places: npt.NDArray[np.int64] | None,
        rows: npt.NDArray[np.intp] | None,
        cols: npt.NDArray[np.intp] | None,
        divisor: float,
        shape: tuple[int, ...],
        threads: int,
    ) -> Array: ...
    def channel_sums(
        self,
        g: Array,
        from_g: npt.NDArray[np.float64] | None,
        x: Array | None,
        from_x: npt.NDArray[np.float64] | None,
        n: int,
        c: int,
        threads: int,
    ) -> npt.NDArray[np.float64]: ...
    def combine(self, g: Array, x: Array, factors: npt.NDArray[np.float64], n: int, threads: int) -> Array: ...
    def fma_peak(self, seconds: float = 0.02) -> float: ...
    def blas_product(self, a: Array, b: Array, y: Array) -> None: ...
