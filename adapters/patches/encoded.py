"""Replaced tensors told in fewer bytes: decoded against the module whose parameters they are a difference to."""

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
"""What one parameter is stored as, by the names of its parts."""


@dataclass(frozen=True, eq=False, slots=True)
class Encoded(Replace):
    """Replaced tensors, and what they are stored as: `weight.sign` is the part `sign` of the parameter `weight`.

    A parameter that is stored by its own name is as it was. The part `rows`, a bit for each row, says of which rows the
    other parts tell; without it, of all. Nothing stored can decode to more than the module's own parameters.
    """

    encoded: ClassVar[bool] = True
    stored: Mapping[str, Tensor]
    stated: Mapping[str, Any]

    def tensors(self) -> Mapping[str, Tensor]:
        return self.stored

    def options(self) -> Mapping[str, Any]:
        return self.stated

    @classmethod
    def encode(cls, replaced: Mapping[str, Tensor], module: nn.Module, *, rank: int = 0) -> Self:
        """Return the patch that stores `replaced`, a parameter of `module` each; what gains nothing as it is.

        `rank` is how many columns `Factors` have.
        """
        stored: dict[str, Tensor] = {}
        stated: dict[str, Any] = {}
        for name, values in replaced.items():
            own = module.get_parameter(name).detach().cpu()
            values = values.detach().cpu().to(own.dtype)
            mask = moved_rows(values, own)
            found = cls._encoded(*((values, own) if mask is None else (values[mask], own[mask])), rank)
            if found is None:
                stored[name] = values
                continue
            if mask is not None:
                found["rows"] = _bitmap(mask)
            stored |= {f"{name}.{part}": tensor for part, tensor in found.items()}
            stated |= cls._stated(name, values, own)
        return cls.load(stored, stated, module)

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Self:
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, part = key.partition(".")
            parts.setdefault(name, {})[part] = tensor
        own = dict(module.named_parameters(recurse=False))
        replaced = {}
        for name, found in parts.items():
            if name not in own:
                raise AdapterError(f"'{name}' is no parameter of {type(module).__name__}; it has {', '.join(own)}")
            base = own[name].detach().cpu()
            whole = found.get("") if len(found) == 1 else None
            replaced[name] = _decoded(cls, name, found, options.get(name, {}), base) if whole is None else whole
            if not replaced[name].is_floating_point():
                raise AdapterError(f"'{name}' is of {replaced[name].dtype}, and floating-point numbers were expected")
        if extra := set(options) - {name for name, found in parts.items() if "" not in found}:
            raise AdapterError(f"a patch of kind '{cls.kind}' has options for '{min(extra)}', which isn't encoded")
        return cls(Replace.load(replaced, {}, module).replaced, dict(tensors), dict(options))

    @classmethod
    @abstractmethod
    def _encoded(cls, values: Tensor, own: Tensor, rank: int) -> dict[str, Tensor] | None:
        """Return the parts that tell `values`, the rows that differ from `own`, or None where they gain nothing."""

    @classmethod
    def _stated(cls, name: str, values: Tensor, own: Tensor) -> dict[str, Any]:
        """Return what the options say of the parameter `name`, by its name."""
        return {}

    @classmethod
    @abstractmethod
    def _rows(cls, parts: Parts, stated: Any, own: Tensor) -> Tensor:
        """Return the rows that `parts` tell, in the dtype and shape of `own`, the base's.

        Raises `ValueError` or `KeyError` where parts or options are not what `_encoded` makes.
        """

    @classmethod
    def _check(cls, stated: Any, values: Tensor, own: Tensor) -> None:
        """Raise `ValueError` where what was decoded isn't what was encoded."""


def _decoded(cls: type[Encoded], name: str, parts: dict[str, Tensor], stated: Any, own: Tensor) -> Tensor:
    """Return a parameter from its parts, or raise `AdapterError`."""
    try:
        bitmap = parts.pop("rows", None)
        if bitmap is None:
            values = cls._rows(parts, stated, own)
        else:
            mask = _mask(bitmap, own)
            values = own.clone()
            values[mask] = cls._rows(parts, stated, own[mask])
        if not bool(torch.isfinite(values).all()):
            raise ValueError("it decodes to what is no finite number")
        cls._check(stated, values, own)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        why = f"no part {error}" if isinstance(error, KeyError) else str(error)
        raise AdapterError(f"'{name}' can't be decoded from {', '.join(sorted(parts))}: {why}") from error
    return values


@dataclass(frozen=True, eq=False, slots=True)
class Exact(Encoded):
    """The differences of bits to the base's, packed: what was encoded comes back to the bit, or is refused."""

    kind: ClassVar[str] = "exact"

    @classmethod
    def _encoded(cls, values: Tensor, own: Tensor, rank: int) -> dict[str, Tensor] | None:
        packed = bitplanes.pack(bitplanes.bits(values), bitplanes.bits(own), level=_LEVEL)
        return _if_smaller({"exact": torch.from_numpy(packed.copy())}, values)

    @classmethod
    def _stated(cls, name: str, values: Tensor, own: Tensor) -> dict[str, Any]:
        return {name: {"sha256": tensor_digest(values), "base": tensor_digest(own)}}

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, own: Tensor) -> Tensor:
        packed = _part(parts, "exact", torch.uint8, (parts["exact"].numel(),), only=1)
        return bitplanes.from_bits(bitplanes.unpack(packed.numpy(), bitplanes.bits(own)), own)

    @classmethod
    def _check(cls, stated: Any, values: Tensor, own: Tensor) -> None:
        for whose, wanted, tensor in (("the base's", stated["base"], own), ("the decoded", stated["sha256"], values)):
            if (found := tensor_digest(tensor)) != wanted:
                raise ValueError(f"{whose} tensor has SHA-256 {found[:12]}…, expected {str(wanted)[:12]}…")


@dataclass(frozen=True, eq=False, slots=True)
class Sign(Encoded):
    """The signs of a matrix's differences to the base's, and a size a row (BitDelta, arXiv:2402.10193)."""

    kind: ClassVar[str] = "sign"

    @classmethod
    def _encoded(cls, values: Tensor, own: Tensor, rank: int) -> dict[str, Tensor] | None:
        if values.ndim != 2:
            return None
        delta = values.double() - own.double()
        packed = np.packbits((delta >= 0).numpy(), axis=1)
        return _if_smaller({"sign": torch.from_numpy(packed), "scale": delta.abs().mean(1).float()}, values)

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, own: Tensor) -> Tensor:
        count, width = own.shape
        scale = _part(parts, "scale", None, (count,), only=2)
        packed = _part(parts, "sign", torch.uint8, (count, -(-width // 8)), only=2)
        return signed(own, signs(packed, width), scale)

    def mask(self, name: str, own: Tensor) -> Tensor | None:
        """Return which rows of a parameter are told, (rows,); None for all."""
        bitmap = self.stored.get(f"{name}.rows")
        return None if bitmap is None else _mask(bitmap, own).to(own.device)


def signs(packed: Tensor, width: int) -> Tensor:
    """Return bits, (rows, width / 8) bytes, as -1 and 1, (rows, width)."""
    found = np.unpackbits(packed.cpu().numpy(), axis=1, count=width)
    return torch.from_numpy(found).float() * 2 - 1


def signed(own: Tensor, signs: Tensor, scale: Tensor) -> Tensor:
    """Return (rows, features) of the base, each moved by its row's scale in the direction of its sign."""
    return (own.float() + signs * scale.float()[:, None]).to(own.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Factors(Encoded):
    """A matrix's differences to the base's as a product of two thin ones: what `LowRank` is to a linear map."""

    kind: ClassVar[str] = "factors"

    @classmethod
    def _encoded(cls, values: Tensor, own: Tensor, rank: int) -> dict[str, Tensor] | None:
        if values.ndim != 2:
            return None
        left, right = factors(values.double() - own.double(), rank)
        return _if_smaller({"left": left.to(values.dtype), "right": right.to(values.dtype)}, values)

    @classmethod
    def _rows(cls, parts: Parts, stated: Any, own: Tensor) -> Tensor:
        count, width = own.shape
        rank = min(parts["right"].shape[0], count, width)
        left, right = (_part(parts, "left", None, (count, rank), only=2), _part(parts, "right", None, (rank, width)))
        return (own.float() + left.float() @ right.float()).to(own.dtype)


def factors(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (rows, rank) and (rank, columns), alike in size, whose product is the nearest to `delta` of that rank."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    rank = min(rank, len(s))
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).contiguous(), (root[:, None] * v[:rank]).contiguous()


def moved_rows(values: Tensor, own: Tensor) -> Tensor | None:
    """Return which rows of a parameter differ from the base's, (rows,); None where all do, or it is no matrix."""
    if values.ndim < 2:
        return None
    mask = (values != own).flatten(1).any(1)
    return None if bool(mask.all()) else mask


def _bitmap(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.numpy()))


def _mask(bitmap: Tensor, own: Tensor) -> Tensor:
    """Return which of the rows of `own` a bitmap names, (rows,)."""
    count = own.shape[0]
    if bitmap.dtype != torch.uint8 or bitmap.shape != (-(-count // 8),):
        raise ValueError(f"rows are {tuple(bitmap.shape)} of {bitmap.dtype}, but {count} bits were expected")
    return torch.from_numpy(np.unpackbits(bitmap.cpu().numpy(), count=count)).bool()


def _part(parts: Parts, name: str, dtype: torch.dtype | None, shape: tuple[int, ...], *, only: int = 0) -> Tensor:
    """Return a part, of any floating-point type where `dtype` is None; `only` says how many parts there may be."""
    found = parts[name].cpu()
    if found.shape != shape or (found.dtype != dtype if dtype is not None else not found.is_floating_point()):
        raise ValueError(f"{name} is {tuple(found.shape)} of {found.dtype}, but {shape} was expected")
    if only and len(parts) != only:
        raise ValueError(f"{only} parts were expected")
    return found


def _if_smaller(parts: dict[str, Tensor], values: Tensor) -> dict[str, Tensor] | None:
    size = sum(part.numel() * part.element_size() for part in parts.values())
    return parts if size < values.numel() * values.element_size() else None
