"""The ONNX graphs of an export: the base with low-rank updates as inputs, and heads with their parameters as inputs."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.tracing import forward_arguments, replicate
from ..errors import AdapterError
from ..modules import blocks
from ..patches.patch import features
from ..pool.context import PassContext, entered
from ..pool.rows import Rows
from ..pool.task_heads import SharedProbe, TaskHead
from ..runtime.graph_check import check_graph
from ..runtime.session import Session
from ..tasks import Task

_OPSET = 20  # the first with Gelu
_MOST_BYTES = (2 << 30) - (1 << 20)  # of a protobuf
_TOLERANCE = 1e-4  # of the largest output
_SIZES = ((2, 7, 2, 2), (1, 5, 1, 1), (3, 9, 1, 0), (4, 12, 3, 5))
"""Texts, tokens, adapters and rank of the inputs with which a graph is compared with torch."""
_FIELDS = ("logits", "start_logits", "end_logits")


class BaseGraph(nn.Module):
    """A base's modules, where a linear map adds the low-rank update of each row's adapter."""

    def __init__(self, base: Base, modules: Sequence[str], layers: Sequence[int], *, token_types: bool) -> None:
        """`modules` take updates; `layers` are hidden states to return, 0 the input of the lowest block."""
        super().__init__()
        self.model = replicate(base.model, {})
        self.modules_by_name = {name: self.model.get_submodule(name) for name in modules}
        self.shapes = {name: features(module) for name, module in self.modules_by_name.items()}
        self.layers, self.token_types = list(layers), token_types
        self.vocabulary = base.model.get_input_embeddings().num_embeddings
        self.mixing: set[str] = set()
        """Modules whose input is no row for each text, such as DeBERTa's positions: all texts have one adapter then."""
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        self._hidden: dict[int, Tensor] = {}
        self.mixing |= self._mixing_modules()
        for module in self.model.modules():
            if type(module) is nn.Linear:
                module.forward = functools.partial(by_tokens, module)  # type: ignore[method-assign]
        for name, module in self.modules_by_name.items():
            module.forward = with_update(module, functools.partial(self._factors_of, name))
        self.depth = len(blocks(self.model))
        for number, block in enumerate(blocks(self.model).values(), start=1):
            block.forward = self._recorded(number, block)

    def _mixing_modules(self) -> set[str]:
        """Return the modules that get one row for several texts in a pass."""
        rows: dict[str, int] = {}
        hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name: rows.__setitem__(name, len(args[0])))
            for name, module in self.modules_by_name.items()
        ]
        try:
            with torch.no_grad():
                inputs = self.inputs(*_SIZES[0])
                self.model(
                    **forward_arguments(self.model, {key: inputs[key] for key in ("input_ids", "attention_mask")})
                )
        finally:
            for hook in hooks:
                hook.remove()
        return {name for name, count in rows.items() if count == 1}

    def _factors_of(self, name: str) -> tuple[Tensor, Tensor]:
        a, b = self._factors[name]
        return (a[:1], b[:1]) if name in self.mixing else (a, b)

    def _recorded(self, number: int, block: nn.Module) -> Any:
        plain = block.forward

        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            if number == 1:
                self._hidden[0] = hidden
            output = plain(hidden, *args, **kwargs)
            self._hidden[number] = output[0] if isinstance(output, tuple) else output
            return output

        return forward

    @property
    def input_names(self) -> list[str]:
        """The graph's inputs in order."""
        factors = [f"{name}.{letter}" for name in self.shapes for letter in "AB"]
        types = ["token_type_ids"] if self.token_types else []
        return ["input_ids", "attention_mask", *types, *(["adapter_of_row", *factors] if factors else [])]

    @property
    def output_names(self) -> list[str]:
        """The graph's outputs in order."""
        return list(self._outputs)

    def inputs(self, texts: int, tokens: int, adapters: int, rank: int) -> dict[str, Tensor]:
        """Return random inputs of a size, by name."""
        generator = torch.Generator().manual_seed(texts * tokens + rank)
        ids = torch.randint(0, self.vocabulary, (texts, tokens), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, tokens - tokens // 3 :] = 0
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        values["adapter_of_row"] = torch.arange(texts) % (1 if self.mixing else adapters)
        for name, (inner, outer) in self.shapes.items():
            values[f"{name}.A"] = torch.randn(adapters, inner, rank, generator=generator) / inner**0.5
            values[f"{name}.B"] = torch.randn(adapters, rank, outer, generator=generator) / 10
        return {name: values[name] for name in self.input_names}

    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """Return the dimensions of inputs that vary, by name."""
        texts, tokens, adapters, rank = (torch.export.Dim(name) for name in ("texts", "tokens", "adapters", "rank"))
        kinds = {".A": {0: adapters, 2: rank}, ".B": {0: adapters, 1: rank}}
        return {
            name: {0: texts} if name == "adapter_of_row" else kinds.get(name[-2:], {0: texts, 1: tokens})
            for name in self.input_names
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, in the order of `output_names`, for the inputs in the order of `input_names`."""
        values = dict(zip(self.input_names, inputs, strict=True))
        if "adapter_of_row" in values:
            rows = values["adapter_of_row"]
            of_rows = {name: values[name].index_select(0, rows) for name in values if name[-2:] in (".A", ".B")}
            self._factors = {name: (of_rows[f"{name}.A"], of_rows[f"{name}.B"]) for name in self.shapes}
        types = {"token_type_ids": values["token_type_ids"]} if self.token_types else {}
        arguments = forward_arguments(self.model, {key: values[key] for key in ("input_ids", "attention_mask")})
        output = self.model(**arguments, **types)
        self.output_type = type(output)
        tensors = {name: value for name, value in output.items() if isinstance(value, Tensor)}
        self._hidden[self.depth] = output[0]  # after the base's last norm
        self._outputs = {**tensors, **{f"hidden.{k}": self._hidden[k] for k in self.layers}}
        return tuple(self._outputs.values())


class HeadGraph(nn.Module):
    """A head that reads the base's outputs, with its parameters as inputs."""

    def __init__(self, head: TaskHead, task: Task, base: BaseGraph) -> None:
        super().__init__()
        self.model, self.task, self.base_graph = head.model, task, [base]  # in a list, so that it is no submodule
        self.form = head.form
        prefix = "probe." if isinstance(head, SharedProbe) else ""
        named = dict(head.model.named_parameters())
        self.parameter_names = {name: name.removeprefix(prefix) for name in head.parameters}
        self.values: dict[str, Tensor] = {name: named[key].detach() for name, key in self.parameter_names.items()}
        self.input_names: list[str] = []
        self.output_names: list[str] = []

    def inputs(self, texts: int, tokens: int, adapters: int, rank: int) -> dict[str, Tensor]:
        """Return inputs of a size by name: the base's outputs, ids and mask, and random parameters."""
        base = self.base_graph[0]
        inputs = base.inputs(texts, tokens, adapters, rank)
        outputs = dict(zip(base.output_names, base(*inputs.values()), strict=True))
        read = {f"hidden.{k}" for k in self.form.layers} if self.form else set()
        used = {name: value for name, value in outputs.items() if not name.startswith("hidden.") or name in read}
        token_inputs: dict[str, Tensor] = {
            name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs
        }
        generator = torch.Generator().manual_seed(tokens)
        drawn: dict[str, Tensor] = {n: torch.randn(v.shape, generator=generator) / 10 for n, v in self.values.items()}
        values = {**token_inputs, **used, **drawn}
        self.input_names = list(values)
        return values

    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """Return the dimensions of inputs that vary, by name."""
        texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
        varying = {name: {0: texts, 1: tokens} for name in self.input_names}
        flat: dict[str, dict[int, Any]] = {name: {0: texts} for name in self.input_names if name == "pooler_output"}
        return {**varying, **flat, **{name: {} for name in self.values}}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the head's outputs, in the order of `output_names`; of choices, one is a text of its own."""
        values = dict(zip(self.input_names, inputs, strict=True))
        parameters = {key: values[name] for name, key in self.parameter_names.items()}
        mask = values["attention_mask"]
        if self.form is None:
            names = ("input_ids", "attention_mask", "token_type_ids")
            batch = {name: values[name] for name in names if name in values}
            if self.task.has_choices:
                batch = {name: value.unsqueeze(1) for name, value in batch.items()}
            read = {n: v for n, v in values.items() if n not in batch and n not in self.values}
            outputs = self.base_graph[0].output_type(**read)
            with entered(PassContext(Rows([], mask.device), base_outputs=outputs)):
                output = torch.func.functional_call(self.model, parameters, (), batch)
        else:
            hidden = self.form.read({k: values[f"hidden.{k}"] for k in self.form.layers})
            choices = 1 if self.task.has_choices else None
            output = torch.func.functional_call(self.model, parameters, (hidden, mask, choices))
        self.output_names = [name for name in _FIELDS if output.get(name) is not None]
        return tuple(output[name] for name in self.output_names)


def by_tokens(module: nn.Linear, x: Tensor) -> Tensor:
    """Return a linear map of (..., inputs) as one product for all tokens, in which onnxruntime adds the bias."""
    output = nn.functional.linear(x.reshape(-1, x.shape[-1]), module.weight, module.bias)
    return output.reshape(*x.shape[:-1], output.shape[-1])


def with_update(module: nn.Module, factors: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    """Return a module's forward that adds the update by `factors`, (texts, inputs, r) and (texts, r, outputs)."""
    plain = module.forward

    def forward(x: Tensor) -> Tensor:
        a, b = factors()
        flat = x if x.ndim == 3 else x.reshape(a.shape[0], -1, x.shape[-1])
        output: Tensor = plain(x)
        return output + torch.bmm(torch.bmm(flat, a), b).reshape(output.shape)

    return forward


def to_onnx(graph: Any, name: str) -> bytes:
    """Return a graph as the bytes of an ONNX file, compared with torch on inputs of several sizes.

    `graph` is a module with `inputs`, `dynamic_shapes`, `input_names` and `output_names`, as `BaseGraph` has them.
    Raises `AdapterError` where torch can't export it, or onnxruntime computes something else.
    """
    with torch.no_grad():
        inputs = graph.inputs(*_SIZES[0])
        graph(*inputs.values())
        try:
            with _quiet():
                program = torch.onnx.export(
                    graph,
                    tuple(inputs.values()),
                    dynamo=True,
                    dynamic_shapes=(tuple(graph.dynamic_shapes()[n] for n in graph.input_names),),
                    input_names=graph.input_names,
                    output_names=graph.output_names,
                    opset_version=_OPSET,
                    verbose=False,
                )
        except ImportError as error:
            raise AdapterError(f"{error.name} isn't installed: pip install 'adapterkit[onnx]'") from error
        except Exception as error:  # of the model's own code, which torch.export traces
            raise AdapterError(f"torch can't export {name} as ONNX: {' '.join(str(error).split())[:200]}") from error
        assert program is not None
        model = program.model_proto
        if (nbytes := model.ByteSize()) > _MOST_BYTES:
            raise AdapterError(f"{name} has {nbytes:,} bytes; an ONNX file has at most {_MOST_BYTES:,}")
        data: bytes = model.SerializeToString()
        check_graph(memoryview(data), name)
        _compare(graph, Session(data, name), name)
    return data


@contextlib.contextmanager
def one_registry() -> Iterator[None]:
    """Have torch read the ONNX operators that it knows once, and not for each graph: a second each."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = vars(ONNXRegistry)["from_torchlib"]
    except (ImportError, KeyError):  # another torch, or onnxscript is missing, which the first export says
        yield
        return
    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = read  # type: ignore[method-assign]


def _compare(graph: Any, session: Session, name: str) -> None:
    """Raise `AdapterError` where a session's outputs differ from torch's."""
    for size in _SIZES:
        inputs = graph.inputs(*size)
        expected = dict(zip(graph.output_names, graph(*inputs.values()), strict=True))
        outputs = session.run({key: value.numpy() for key, value in inputs.items()})
        for key, tensor in expected.items():
            difference = float(np.abs(outputs[key] - tensor.numpy()).max(initial=0.0))
            if difference > _TOLERANCE * max(1.0, float(tensor.abs().max())):
                raise AdapterError(f"{name}: onnxruntime's {key} differs from torch's by {difference:.2g}")


def tensor_bytes(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file of float32 tensors."""
    from ..io.tensors import chunks

    yield from chunks({name: tensor.detach().float().contiguous() for name, tensor in tensors.items()})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns of torchvision and of its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
