"""The machine that costs are estimated for: what CPUID tells, and what a table knows of microarchitectures.

Deterministic: nothing is timed. What is not known gets the figures of a modest server core.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from .._base import cpuid
from .cpu import kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Machine", "this_machine"]

# (vendor, family, models) -> name, FMAs of the widest vectors per cycle: (512 bits, 256 bits).
# AMD: "Software Optimization Guide for the AMD Zen4 Microarchitecture" (publication 57647) and its predecessors.
# Intel: "Intel 64 and IA-32 Architectures Optimization Reference Manual", models by its table of CPUID signatures;
# server cores have a second 512-bit unit, client cores have not. Zen 3 and Zen 4 share a family; models as in GCC's
# cpuinfo.h.
_TABLE: tuple[tuple[str, int, tuple[int, ...], str, int, int], ...] = (
    ("AuthenticAMD", 0x17, (), "Zen 1-2", 1, 2),
    ("AuthenticAMD", 0x19, (*range(0x10, 0x20), *range(0x60, 0xB0)), "Zen 4", 1, 2),
    ("AuthenticAMD", 0x19, (), "Zen 3", 1, 2),
    ("AuthenticAMD", 0x1A, (), "Zen 5", 2, 2),
    ("GenuineIntel", 6, (0x55,), "Skylake-SP", 2, 2),
    ("GenuineIntel", 6, (0x6A, 0x6C), "Ice Lake-SP", 2, 2),
    ("GenuineIntel", 6, (0x8F, 0xCF), "Sapphire Rapids", 2, 2),
    ("GenuineIntel", 6, (0xAD, 0xAE), "Granite Rapids", 2, 2),
    ("GenuineIntel", 6, (), "Intel Core", 1, 2),
)
_UNKNOWN = ("unknown", 1, 2)

_L1, _L2, _LLC = 32 * 1024, 512 * 1024, 8 * 2**20
# Of one core, where nothing is known: inside a network, 37.8 MB of weights took 2.0 ms at 2.9 GHz (Zen 4 server; alone,
# 25 GB/s at 2.6 GHz have been seen), and an Intel server's core reads 16 to 20 GB/s.
_MEMORY_BYTES_PER_CYCLE = 6.5


class Machine:
    """What kernels are chosen by.

    Attributes
    ----------
    name
        Of the microarchitecture.
    cpu
        The processor's vendor, family and model: what CPUID tells all of its kind apart by.
    level
        Of the instruction set that is used.
    vector, pixel_vector
        Floats in a vector, and in the narrower one of the kernels that put pixels in the lanes.
    pixel_block
        Output channels that those kernels compute at once.
    registers
        Vector registers.
    fma
        Fused multiply-adds of such vectors that a core begins per cycle.
    l1_bytes, l2_bytes, llc_bytes
        Data caches: a core's own two, and the last level that cores share.
    memory_bytes_per_cycle
        What one core reads from memory.
    winograd
        The sizes of each scheme of the compiled kernels (kernels/winograd.h).
    """

    __slots__ = (
        "cpu",
        "fma",
        "l1_bytes",
        "l2_bytes",
        "level",
        "llc_bytes",
        "memory_bytes_per_cycle",
        "name",
        "pixel_block",
        "pixel_vector",
        "registers",
        "vector",
        "winograd",
    )

    def __init__(self, **values: Any) -> None:
        self.name: str = values.pop("name")
        self.cpu: str = values.pop("cpu")
        self.level: str = values.pop("level")
        self.vector: int = values.pop("vector")
        self.pixel_vector: int = values.pop("pixel_vector")
        self.pixel_block: int = values.pop("pixel_block")
        self.registers: int = values.pop("registers")
        self.fma: int = values.pop("fma")
        self.l1_bytes: int = values.pop("l1_bytes")
        self.l2_bytes: int = values.pop("l2_bytes")
        self.llc_bytes: int = values.pop("llc_bytes")
        self.memory_bytes_per_cycle: float = values.pop("memory_bytes_per_cycle")
        self.winograd: tuple[Mapping[str, int], ...] = values.pop("winograd")
        if values:
            raise TypeError(f"a Machine has no {', '.join(values)}")

    @property
    def key(self) -> str:
        """What measured choices are kept under: on another processor, or at another level, they may differ."""
        return f"{self.cpu} {self.level}"

    @property
    def floats_per_cycle(self) -> int:
        """Multiply-adds of floats that a core begins per cycle."""
        return self.vector * self.fma

    def replace(self, **changes: Any) -> Machine:
        """Return a machine that differs in `changes`."""
        return Machine(**{**self.as_dict(), **changes})

    def shown(self) -> dict[str, Any]:
        """Return what describes the hardware, for `fastconv.show_config`."""
        names = ("name", "registers", "fma", "l1_bytes", "l2_bytes", "llc_bytes", "memory_bytes_per_cycle")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes."""
        return {name: getattr(self, name) for name in self.__slots__}


@cache
def this_machine() -> Machine:
    """Describe the machine this process runs on, at the level that is used."""
    k = kernels()
    vendor = _vendor()  # once: in a virtual machine each CPUID takes 4 us
    family, model = _family_model()
    name, wide, narrow = _microarchitecture(vendor, family, model)
    l1, l2, llc = _caches(vendor)
    return Machine(
        name=name,
        cpu=f"{vendor} {family}/{model}",
        level=k.LEVEL,
        vector=k.VECTOR,
        pixel_vector=k.PIXEL_VECTOR,
        pixel_block=k.PIXEL_CHANNELS,
        registers=k.REGISTERS,
        fma=wide if k.VECTOR == 16 else narrow,
        l1_bytes=l1,
        l2_bytes=l2,
        llc_bytes=llc,
        memory_bytes_per_cycle=_MEMORY_BYTES_PER_CYCLE,
        winograd=k.WINOGRAD,
    )


def _vendor() -> str:
    _, b, c, d = cpuid(0, 0)
    return b"".join(word.to_bytes(4, "little") for word in (b, d, c)).decode("ascii", "replace")


def _family_model() -> tuple[int, int]:
    signature, _, _, _ = cpuid(1, 0)
    family, model = signature >> 8 & 15, signature >> 4 & 15
    if family in (6, 15):
        model += signature >> 12 & 0xF0
    if family == 15:
        family += signature >> 20 & 0xFF
    return family, model


def _microarchitecture(vendor: str, family: int, model: int) -> tuple[str, int, int]:
    for known, its_family, models, name, wide, narrow in _TABLE:
        if vendor == known and family == its_family and (not models or model in models):
            return name, wide, narrow
    return _UNKNOWN


def _caches(vendor: str) -> tuple[int, int, int]:
    """Return the bytes of the data caches: first, second and last level. Leaf 4, or AMD's of the same form."""
    sizes = {1: _L1, 2: _L2, 3: _LLC}
    leaf = 0x8000001D if vendor == "AuthenticAMD" else 4
    for index in range(8):
        a, b, c, _ = cpuid(leaf, index)
        kind, level = a & 31, a >> 5 & 7
        if kind == 0:
            break
        if kind != 2 and level in sizes:  # not for instructions alone
            sizes[level] = ((b >> 22) + 1) * ((b >> 12 & 0x3FF) + 1) * ((b & 0xFFF) + 1) * (c + 1)
    return sizes[1], sizes[2], sizes[3]
