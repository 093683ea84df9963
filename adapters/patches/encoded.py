"""Compressed replaced tensors: differences to the base's parameters, decoded against the module that has those."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import AdapterError
from ..io import bitplanes
from ..io.tensors import tensor_digest
from .replace import Replace

_LEVEL = 9
Parts = Mapping[str, Tensor]
"""The stored parts of one parameter by name."""


@dataclass(frozen=True, eq=False, slots=True)
class Encoded(Replace):
    """Replaced tensors and their compressed form: `weight.sign` is the part `sign` of the parameter `weight`.

    A parameter stored under its plain name isn't compressed. The part `rows`, one bit per row, selects the rows that
    the other parts hold; without it, they hold all rows. Nothing stored decodes to more than the module's parameters.
    """

    encoded: ClassVar[bool] = True
    stored: Mapping[str, Tensor]
    stated: Mapping[str, Any]

    def tensors(self) -> Mapping[str, Tensor]:
        return self.stored

    def options(self) -> Mapping[str, Any]:
        return self.stated

    @classmethod
    def compress(cls, replaced: Mapping[str, Tensor], module: nn.Module, *, rank: int = 0) -> Self:
        """Return a patch that stores `replaced`, parameters of `module` by name, compressed where that is smaller.

        `rank` is the number of columns of `Factors`.
        """
        stored: dict[str, Tensor] = {}
        stated: dict[str, Any] = {}
        for name, values in replaced.items():
            reference = module.get_parameter(name).detach().cpu()
            values = values.detach().cpu().to(reference.dtype)
            mask = moved_rows(values, reference)
            parts = cls._compressed(*((values, reference) if mask is None else (values[mask], reference[mask])), rank)
            if parts is None:
                stored[name] = values
                continue
            if mask is not None:
                parts["rows"] = _bitmap(mask)
            stored |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
            stated |= cls._stated(name, values, reference)
        return cls.load(stored, stated, module)

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Self:
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, part = key.partition(".")
            parts.setdefault(name, {})[part] = tensor
        parameters = dict(module.named_parameters(recurse=False))
        replaced = {}
        for name, stored in parts.items():
            if name not in parameters:
                has = ", ".join(parameters)
                raise AdapterError(f"'{name}' is no parameter of {type(module).__name__}; it has {has}")
            base = parameters[name].detach().cpu()
            plain = stored.get("") if len(stored) == 1 else None
            replaced[name] = _decoded(cls, name, stored, options.get(name, {}), base) if plain is None else plain
            if not replaced[name].is_floating_point():
                raise AdapterError(f"'{name}' is of {replaced[name].dtype}, and floating-point numbers were expected")
        if extra := set(options) - {name for name, stored in parts.items() if "" not in stored}:
            raise AdapterError(f"a patch of kind '{cls.kind}' has options for '{min(extra)}', which isn't encoded")
        return cls(Replace.load(replaced, {}, module).replaced, dict(tensors), dict(options))

    @classmethod
    @abstractmethod
    def _compressed(cls, values: Tensor, reference: Tensor, rank: int) -> dict[str, Tensor] | None:
        """Return the parts of `values`, the rows that differ from `reference`, or None where they are no smaller."""

    @classmethod
    def _stated(cls, name: str, values: Tensor, reference: Tensor) -> dict[str, Any]:
        """Return the options of the parameter `name`, by its name."""
        return {}

    @classmethod
    @abstractmethod
    def _rows(cls, parts: Parts, stated: Any, reference: Tensor) -> Tensor:
        """Return the rows in `parts`, in the dtype and shape of `reference`, the base's.

        Raises `ValueError` or `KeyError` where parts or options can't be from `_compressed`.
        """

    @classmethod
    def _check(cls, stated: Any, values: Tensor, reference: Tensor) -> None:
        """Raise `ValueError` where the decoded values differ from the compressed ones."""


def _decoded(cls: type[Encoded], name: str, parts: dict[str, Tensor], stated: Any, reference: Tensor) -> Tensor:
    """Return a parameter from its parts, or raise `AdapterError`."""
    try:
        bitmap = parts.pop("rows", None)
        if bitmap is None:
            values = cls._rows(parts, stated, reference)
        else:
            mask = _mask(bitmap, reference)
            values = reference.clone()
            values[mask] = cls._rows(parts, stated, reference[mask])
        if not bool(torch.isfinite(values).all()):
            raise ValueError("it decodes to what is no finite number")
        cls._check(stated, values, reference)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        why = f"no part {error}" if isinstance(error, KeyError) else str(error)
        raise AdapterError(f"'{name}' can't be decoded from {', '.join(sorted(parts))}: {why}") from error
    return values


@dataclass(frozen=True, eq=False, slots=True)
class Exact(Encoded):
    """The differences of the bits to the base's, compressed: restored to the bit, or refused."""

    kind: ClassVar[str] = "exact"

    @classmethod
    def _compressed(cls, values: Tensor, reference: Tensor, rank: int) -> dict[str, Tensor] | None:
        packed = bitplanes.pack(bitplanes.bits(values), bitplanes.bits(reference), level=_LEVEL)
        return _if_smaller({"exact": torch.from_numpy(packed.copy())}, values)

    @classmethod
    def _stated(cls, name: str, values: Tensor, reference: Tensor) -> dict[str, Any]:
        return {name: {"sha256": tensor_digest(values), "base": tensor_digest(reference)}}

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, reference: Tensor) -> Tensor:
        packed = _part(parts, "exact", torch.uint8, (parts["exact"].numel(),), only=1)
        return bitplanes.from_bits(bitplanes.unpack(packed.numpy(), bitplanes.bits(reference)), reference)

    @classmethod
    def _check(cls, stated: Any, values: Tensor, reference: Tensor) -> None:
        for whose, wanted, tensor in (
            ("the base's", stated["base"], reference),
            ("the decoded", stated["sha256"], values),
        ):
            if (actual := tensor_digest(tensor)) != wanted:
                raise ValueError(f"{whose} tensor has SHA-256 {actual[:12]}…, expected {str(wanted)[:12]}…")


@dataclass(frozen=True, eq=False, slots=True)
class Sign(Encoded):
    """The signs of a matrix's differences to the base's, and one scale per row (BitDelta, arXiv:2402.10193)."""

    kind: ClassVar[str] = "sign"

    @classmethod
    def _compressed(cls, values: Tensor, reference: Tensor, rank: int) -> dict[str, Tensor] | None:
        if values.ndim != 2:
            return None
        delta = values.double() - reference.double()
        packed = np.packbits((delta >= 0).numpy(), axis=1)
        return _if_smaller({"sign": torch.from_numpy(packed), "scale": delta.abs().mean(1).float()}, values)

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, reference: Tensor) -> Tensor:
        count, width = reference.shape
        scale = _part(parts, "scale", None, (count,), only=2)
        packed = _part(parts, "sign", torch.uint8, (count, -(-width // 8)), only=2)
        return signed(reference, signs(packed, width), scale)

    def mask(self, name: str, reference: Tensor) -> Tensor | None:
        """Return which rows of a parameter are stored, (rows,); None for all."""
        bitmap = self.stored.get(f"{name}.rows")
        return None if bitmap is None else _mask(bitmap, reference).to(reference.device)


def signs(packed: Tensor, width: int) -> Tensor:
    """Return bits, (rows, width / 8) bytes, as -1 and 1, (rows, width)."""
    bits = np.unpackbits(packed.cpu().numpy(), axis=1, count=width)
    return torch.from_numpy(bits).float() * 2 - 1


def signed(reference: Tensor, signs: Tensor, scale: Tensor) -> Tensor:
    """Return (rows, features) of the base plus the row's scale times the sign."""
    return (reference.float() + signs * scale.float()[:, None]).to(reference.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Factors(Encoded):
    """A matrix's differences to the base's as a product of two thin ones: what `LowRank` is to a linear map."""

    kind: ClassVar[str] = "factors"

    @classmethod
    def _compressed(cls, values: Tensor, reference: Tensor, rank: int) -> dict[str, Tensor] | None:
        if values.ndim != 2:
            return None
        left, right = factors(values.double() - reference.double(), rank)
        return _if_smaller({"left": left.to(values.dtype), "right": right.to(values.dtype)}, values)

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, reference: Tensor) -> Tensor:
        count, width = reference.shape
        rank = min(parts["right"].shape[0], count, width)
        left, right = (_part(parts, "left", None, (count, rank), only=2), _part(parts, "right", None, (rank, width)))
        return (reference.float() + left.float() @ right.float()).to(reference.dtype)


def factors(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (rows, rank) and (rank, columns) of equal norm, whose product is the best approximation of `delta`."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    rank = min(rank, len(s))
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).contiguous(), (root[:, None] * v[:rank]).contiguous()


def moved_rows(values: Tensor, reference: Tensor) -> Tensor | None:
    """Return which rows of a parameter differ from the base's, (rows,); None where all do, or it is no matrix."""
    if values.ndim < 2:
        return None
    mask = (values != reference).flatten(1).any(1)
    return None if bool(mask.all()) else mask


def _bitmap(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.numpy()))


def _mask(bitmap: Tensor, reference: Tensor) -> Tensor:
    """Return which of the rows of `reference` a bitmap names, (rows,)."""
    count = reference.shape[0]
    if bitmap.dtype != torch.uint8 or bitmap.shape != (-(-count // 8),):
        raise ValueError(f"rows are {tuple(bitmap.shape)} of {bitmap.dtype}, but {count} bits were expected")
    return torch.from_numpy(np.unpackbits(bitmap.cpu().numpy(), count=count)).bool()


def _part(parts: Parts, name: str, dtype: torch.dtype | None, shape: tuple[int, ...], *, only: int = 0) -> Tensor:
    """Return a part, of any floating-point type where `dtype` is None; `only` is the number of parts allowed."""
    part = parts[name].cpu()
    if part.shape != shape or (part.dtype != dtype if dtype is not None else not part.is_floating_point()):
        raise ValueError(f"{name} is {tuple(part.shape)} of {part.dtype}, but {shape} was expected")
    if only and len(parts) != only:
        raise ValueError(f"{only} parts were expected")
    return part


def _if_smaller(parts: dict[str, Tensor], values: Tensor) -> dict[str, Tensor] | None:
    size = sum(part.numel() * part.element_size() for part in parts.values())
    return parts if size < values.numel() * values.element_size() else None
