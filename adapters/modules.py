"""Find a transformer's blocks, and name its parameters, without a table of architectures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import StrategyError

if TYPE_CHECKING:
    from torch import nn


M = TypeVar("M")


def blocks(base: nn.Module) -> dict[str, nn.Module]:
    """Return the transformer layers of `base` by module name, bottom first; empty for a base that has none.

    A block is an element of an outermost `ModuleList` whose elements are all of one class. An encoder-decoder's blocks
    are the encoder's, then the decoder's.
    """
    from torch import nn

    candidates: dict[str, nn.Module] = {}

    def search(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            path_of_child = f"{path}.{name}" if path else name
            if isinstance(child, nn.ModuleList) and len({type(block) for block in child}) == 1:
                candidates.update((f"{path_of_child}.{i}", block) for i, block in enumerate(child))
            else:
                search(child, path_of_child)

    search(base, "")
    return {name: block for name, block in candidates.items() if any(True for _ in block.parameters())}


def lowest(base: nn.Module) -> list[nn.Parameter]:
    """Return the parameters below the blocks, which come before them in `base`: embeddings, and norms on these."""
    first = next(iter(blocks(base)), None)
    below: list[nn.Parameter] = []
    if first is None:
        return below
    for name, p in base.named_parameters():
        if name.startswith(f"{first}."):
            break
        below.append(p)
    return below


def block_groups(
    base: nn.Module, chosen: Sequence[int], *, embeddings: bool = False, all_norms: bool = False
) -> list[list[nn.Parameter]]:
    """Return parameters in groups, lowest first: those of the blocks with the indices `chosen`.

    With `embeddings`, those below the blocks come first; with `all_norms`, each group has the norms of its layers too,
    and norms above the blocks come last. Raises `StrategyError` where the base has no blocks.
    """
    layers, below = list(blocks(base).values()), lowest(base)
    if not layers:
        raise StrategyError("layerwise training needs blocks, and the base has none; use head-only or full")
    extra = norms(base) if all_norms else []
    ids = {id(p) for p in extra}
    groups = [below if embeddings else [p for p in below if id(p) in ids]]
    for i, block in enumerate(layers):
        group = list(block.parameters()) if i in chosen else []
        in_group = {id(p) for p in group}
        groups.append(group + [p for p in block.parameters() if id(p) in ids and id(p) not in in_group])
    inside = {id(p) for p in (*below, *(p for block in layers for p in block.parameters()))}
    return [group for group in (*groups, [p for p in extra if id(p) not in inside]) if group]


def norms(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the layer norms and RMS norms in `module`."""
    return [p for m in norm_modules(module).values() for p in m.parameters(recurse=False)]


def norm_modules(base: nn.Module) -> dict[str, nn.Module]:
    """Return the layer norms and RMS norms of `base` by name, recognised by their class names."""
    return {name: m for name, m in base.named_modules() if type(m).__name__.endswith("Norm")}


def chosen_blocks(text: str, count: int) -> tuple[int, ...]:
    """Read a choice of blocks such as `0,4-5`, counted from 0 at the bottom.

    >>> chosen_blocks("0,4-5", 6)
    (0, 4, 5)
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match:
            raise StrategyError(f"layers='{text}' is not a list of blocks such as 4-5 or 0,4-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise StrategyError(f"layers='{text}', but the base has blocks 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def owners(module: nn.Module) -> dict[str, tuple[str, str]]:
    """Return, for each parameter's full name, its module's name and its own: `a.b.weight` -> (`a.b`, `weight`)."""
    names = (name for name, _ in module.named_parameters(remove_duplicate=False))
    return {name: (name.rpartition(".")[0], name.rpartition(".")[2]) for name in names}


def linear_maps(base: nn.Module) -> dict[str, Any]:
    """Return the linear modules of `base` by name: `nn.Linear`, and GPT-2's Conv1D."""
    from torch import nn

    return {n: m for n, m in base.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}


def inside_blocks(base: nn.Module, modules: Mapping[str, M]) -> dict[str, M]:
    """Return those of some modules of the base, by name, that are inside its blocks."""
    prefixes = tuple(f"{name}." for name in blocks(base))
    return {name: module for name, module in modules.items() if name.startswith(prefixes)}


def target_linear_maps(
    base: nn.Module, names: tuple[str, ...], usual: Mapping[str, Sequence[str]]
) -> dict[str, nn.Module]:
    """Return the linear modules that `names` choose, as PEFT's `target_modules` do.

    `("all-linear",)` chooses those of all blocks, `("usual",)` what the table `usual` has for the base's model type.
    Raises `StrategyError` where a name is that of no linear module.
    """
    maps = linear_maps(base)
    if not maps:
        raise StrategyError("the base has no linear modules to update; use head-only or full")
    if names == ("usual",):
        names = tuple(usual.get(getattr(base.config, "model_type", ""), ()))
    if names == ("all-linear",):
        return inside_blocks(base, maps) or maps
    others = [n for n, m in base.named_modules() if n not in maps and n.rpartition(".")[2] in names]
    if others:
        raise StrategyError(f"target_modules={','.join(names)}: '{others[0]}' is not a linear module")
    return named_like(maps, names, "target_modules")


def named_like(modules: Mapping[str, M], wanted: Sequence[str], option: str) -> dict[str, M]:
    """Return the modules whose names are, or end in, one of `wanted`, as PEFT reads `target_modules`.

    Raises `StrategyError` with the names in the base where `wanted` is empty or one of them matches no module.
    """
    names_in_base = ", ".join(sorted({name.rpartition(".")[2] for name in modules})) or "none"
    if not wanted:
        raise StrategyError(
            f"{option} has no default for this architecture; the base has these linear modules: {names_in_base}"
        )
    for name in wanted:
        if not any(_ends_in(full, name) for full in modules):
            raise StrategyError(f"{option}={','.join(wanted)}; the base has these linear modules: {names_in_base}")
    return {full: m for full, m in modules.items() if any(_ends_in(full, name) for name in wanted)}


def _ends_in(full: str, name: str) -> bool:
    return full == name or full.endswith(f".{name}")


def sublayer_ends(base: nn.Module) -> dict[str, Any]:
    """Return in each block the last linear map of its attention and of its feed-forward layer, by name.

    They are recognised by their widths, in the order of the block: a feed-forward layer widens its input, and its last
    map is the next one that has the width of the block again; the attention's last map comes before it.
    """
    ends: dict[str, Any] = {}
    for block, module in blocks(base).items():
        maps = [(f"{block}.{name}", m, *_features(m)) for name, m in linear_maps(module).items()]
        if not maps:
            continue
        width = maps[0][2]  # of the input of a block, which its first map reads
        before: tuple[str, Any] | None = None
        wide = 0
        for name, m, inner, outer in maps:
            if inner == width and outer == width and not wide:
                before = (name, m)
            elif inner == width and outer > width and before is not None:
                ends[before[0]] = before[1]
                wide = outer
            elif outer == width:
                ends[name] = m
                wide = 0
    return ends


def _features(module: Any) -> tuple[int, int]:
    shape = tuple(module.weight.shape)
    return (shape[0], shape[1]) if type(module).__name__ == "Conv1D" else (module.in_features, module.out_features)


def attentions(base: nn.Module) -> dict[str, nn.Module]:
    """Return the innermost attention modules of the blocks by name, recognised by their class names."""
    layers: dict[str, nn.Module] = {}
    for block, module in blocks(base).items():
        for name, m in module.named_modules():
            inner = [type(child).__name__ for child in m.modules() if child is not m]
            if "Attention" in type(m).__name__ and not any("Attention" in kind for kind in inner):
                layers[f"{block}.{name}"] = m
    return layers
