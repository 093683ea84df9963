"""Model cards: an adapter's README.md, with the metadata that the Hub reads at its top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

CARD = "README.md"
PEFT_CONFIG = "adapter_config.json"


def card(name: str, manifest: bytes) -> bytes:
    """Return the model card of an adapter whose adapter.json is `manifest`.

    No path is in it, and no licence, which is its owner's to choose. As base and as data it names only what is on the
    Hub; metrics are those that were measured, with what on.
    """
    m = json.loads(manifest)
    parts = [
        f"# {name}",
        _what(m),
        _use(name, m),
        *_section("Labels", ", ".join(f"`{_plain(label)}`" for label in _options(m["task"]).get("labels") or ())),
        *_section("Metrics", _metrics(m)),
        *_section("Training", _training(m)),
        *_section("Base", _base(m)),
    ]
    return (f"---\n{_metadata(name, m)}\n---\n\n" + "\n\n".join(parts) + "\n").encode("utf-8", "replace")


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _metadata(name: str, m: Mapping[str, Any]) -> str:
    """Return what the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    task, data = m["task"]["name"], _data_name(m)
    on_hub = _hub_data(m)
    results = [
        EvalResult(
            task_type=task,
            dataset_type=on_hub[0] if on_hub else data,
            dataset_name=data,
            dataset_split=split,
            metric_type=metric,
            metric_name=metric,
            metric_value=value,
        )
        for split, metric, value, _, _ in _measured(m)
    ]
    about = ModelCardData(
        base_model=m["base"].get("hub_id"),
        base_model_relation="adapter",
        datasets=on_hub or None,
        eval_results=results or None,
        library_name="peft" if _is_peft(m) else "adapterkit",
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name,
        pipeline_tag=task,
        tags=list(dict.fromkeys(["adapterkit", m["strategy"]["name"], m["base"]["model_type"]])),
    )
    return str(about.to_yaml())


# ---- sections


def _what(m: Mapping[str, Any]) -> str:
    base = m["base"].get("hub_id") or f"a base of type {m['base']['model_type']}"
    task = m["task"]["name"]
    if merged := m.get("merged_from"):
        rows = [f"| {_plain(p['name'])} | {p['version']} | {p['weight']:g} |" for p in merged]
        return "\n".join(
            [
                f"An adapter for {task} on {base}: the weighted sum of these, by combination type "
                f"{_plain(m.get('combination_type'))}. It wasn't trained itself, and no metrics were measured.\n",
                "| adapter | version | weight |",
                "|---|---|---|",
                *rows,
            ]
        )
    if "imported_from" in m:  # whose source may be a folder of its owner's
        distribution = str(m["strategy"].get("distribution", "peft"))
        maker = _plain(distribution) if distribution == "sentence-transformers" else "PEFT"
        how = f"{maker} {_plain(m['strategy'].get('version'))} ({_plain(m['strategy']['name'])})"
        return f"An adapter for {task} on {base}, made with {how} and taken in by adapterkit. No metrics were measured."
    learned = f"; {m['parameters']:,} parameters learned" if isinstance(m.get("parameters"), int) else ""
    on = f" on the data set {data}" if (data := _data_name(m)) else ""
    return f"An adapter for {task} on {base}, made with the strategy {_plain(m['strategy']['name'])}{on}{learned}."


def _use(name: str, m: Mapping[str, Any]) -> str:
    lines = [
        "## Use\n",
        "    pip install adapterkit",
        f"    adapt pull OWNER/REPOSITORY --name {name}  # from the Hub; where it was made, it is there",
        f'    adapt predict {name} "a text"',
    ]
    if _is_peft(m):
        lines.append("\nThe folder is one of PEFT's, too: `PeftModel.from_pretrained(model, folder)`.")
    return "\n".join(lines)


def _metrics(m: Mapping[str, Any]) -> str:
    rows = [
        f"| {split} | {metric} | {value:.4f} | {f'{span[0]:.4f} to {span[1]:.4f}' if span else ''} | {n} |"
        for split, metric, value, span, n in _measured(m)
    ]
    return "\n".join(
        ["| split | metric | value | 95 % interval | rows |", "|---|---|---|---|---|", *rows] if rows else []
    )


def _measured(m: Mapping[str, Any]) -> Iterator[tuple[str, str, float, tuple[float, float] | None, int]]:
    """Yield split, metric, value, interval and rows of what was measured."""
    for split, values in m.get("metrics", {}).items():
        for metric, value in values.items():
            if metric not in ("n", "intervals"):
                span = values.get("intervals", {}).get(metric)
                yield (
                    _plain(split),
                    _plain(metric),
                    float(value),
                    span and tuple(map(float, span)),
                    int(values.get("n", 0)),
                )


def _training(m: Mapping[str, Any]) -> str:
    options = {**_options(m["strategy"]), **m.get("training", {})}
    return "\n".join(f"- {key}: {_plain(value)}" for key, value in options.items() if value not in (None, [], ""))


def _base(m: Mapping[str, Any]) -> str:
    base = m["base"]
    facts = {
        "on the Hub": base.get("hub_id"),
        "revision": base.get("revision"),
        "model type": base["model_type"],
        "held in": base.get("quantization"),
        "fingerprint": f"`{base['fingerprint']}`",
    }
    return "\n".join(f"- {key}: {value}" for key, value in facts.items() if value)


def _options(part: Mapping[str, Any]) -> Mapping[str, Any]:
    options: Mapping[str, Any] = part.get("options", {})
    return options


def _data_name(m: Mapping[str, Any]) -> str:
    """Return what the data set is called, without its folders."""
    return _plain(m.get("data", {}).get("name") or "").rpartition("/")[2]


def _hub_data(m: Mapping[str, Any]) -> list[str]:
    """Return the ids of the data sets that are on the Hub: owner/name, or name alone; a config may follow."""
    name, ids = _data_name(m), []
    for split in m.get("data", {}).get("splits", {}).values():
        kind, _, path = str(split.get("file")).partition("hub:")
        parts = path.split("/")
        if not kind and name in parts[:2]:
            ids.append("/".join(parts[:2] if name in parts[1:2] else parts[:1]))
    return list(dict.fromkeys(ids))


def _is_peft(m: Mapping[str, Any]) -> bool:
    return PEFT_CONFIG in m.get("files", {})


def _plain(value: Any) -> str:
    """Return a value in one line that is no markup."""
    return re.sub(r"[|`<>\\]", " ", " ".join(str(value).split()))
