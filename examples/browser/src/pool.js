// Many adapters on one base: the base's graph is loaded once, an adapter's tensors are inputs of it.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web/wasm";

const SINGLE = "single_label_classification";
const MULTI = "multi_label_classification";
const NUMBER = "regression";

/** Return why this page has no answers of a task, or null where it has. */
export function unsupported({ name, options }) {
  if (name !== "text-classification") return name;
  if (options.text_column_name.length !== 1) return "pairs of texts";
  if (options.long_texts === "windows") return "texts in windows";
  return [SINGLE, MULTI, NUMBER].includes(options.problem_type) ? null : String(options.problem_type);
}

export class Pool {
  constructor(folder) {
    this.folder = folder;
    this.adapters = new Map();
    this.heads = new Map();
    this.loads = { base: 0, adapters: 0 };
  }

  /** Load the runtime, the tokenizer and the base. `wasm` is the content of onnxruntime's file. */
  async open(wasm) {
    Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1, proxy: false }); // threads need headers of a server
    ort.env.logLevel = "error";
    this.tokenizer = tokenizer(await this.folder.read("tokenizer.json"), this.folder.manifest.tokenizer);
    this.base = await session(await this.folder.read("base.onnx"));
    this.loads.base += 1;
  }

  /** Load an adapter, and the graph of its head, where they aren't in memory. */
  async load(name) {
    if (this.adapters.has(name)) return this.adapters.get(name);
    const record = this.folder.manifest.adapters[name];
    const tensors = await this.folder.tensors(record.tensors);
    if (!this.heads.has(record.head)) this.heads.set(record.head, await session(await this.folder.read(record.head)));
    const head = {};
    for (const [key, { shape, values }] of Object.entries(tensors))
      if (key.startsWith("head.")) head[key.slice("head.".length)] = new ort.Tensor("float32", values, shape);
    const adapter = { task: record.task.options, head, session: this.heads.get(record.head), factors: this.factors(record, tensors) };
    this.adapters.set(name, adapter);
    this.loads.adapters += 1;
    return adapter;
  }

  /** Return the low-rank updates as inputs of the base's graph: A (1, inputs, r) and B (1, r, outputs) of each module. */
  factors(record, tensors) {
    const rank = Math.max(0, ...record.modules.map((module) => tensors[`${module}.A`].shape[1]));
    const feeds = {};
    for (const [module, [inputs, outputs]] of Object.entries(this.folder.manifest.modules)) {
      const a = new Float32Array(inputs * rank);
      const b = new Float32Array(rank * outputs);
      if (record.modules.includes(module)) {
        const [left, right] = ["A", "B"].map((letter) => tensors[`${module}.${letter}`]);
        const r = left.shape[1];
        for (let i = 0; i < inputs; i++) a.set(left.values.subarray(i * r, (i + 1) * r), i * rank);
        b.set(right.values);
      }
      feeds[`${module}.A`] = new ort.Tensor("float32", a, [1, inputs, rank]);
      feeds[`${module}.B`] = new ort.Tensor("float32", b, [1, rank, outputs]);
    }
    return feeds;
  }

  /** Return label and score of every label, the best first, the labels that are the answer, and the text's tokens. */
  async answer(text, name) {
    const adapter = await this.load(name);
    const { ids, uncut } = this.tokenizer(text, adapter.task.max_seq_length);
    const shape = [1, ids.length];
    const tokens = {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), shape),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
      token_type_ids: new ort.Tensor("int64", new BigInt64Array(ids.length), shape),
      adapter_of_row: new ort.Tensor("int64", new BigInt64Array(1), [1]),
    };
    const outputs = await run(this.base, { ...tokens, ...adapter.factors });
    const { logits } = await run(adapter.session, { ...tokens, ...outputs, ...adapter.head });
    return { ...scored(Array.from(logits.data), adapter.task), tokens: ids.length, uncut };
  }
}

async function session(data) {
  return ort.InferenceSession.create(data, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

function run(graph, values) {
  return graph.run(Object.fromEntries(graph.inputNames.map((name) => [name, values[name]])));
}

/** Return a function from a text and the most tokens to token ids, cut as Python's tokenizers cut them, and to their number uncut. */
function tokenizer(data, record) {
  const config = { ...record.special_tokens, clean_up_tokenization_spaces: record.clean_up };
  const backend = new Tokenizer(JSON.parse(new TextDecoder().decode(data)), config);
  return (text, most) => {
    const plain = backend.encode(text, { add_special_tokens: false }).ids;
    const ids = backend.encode(text).ids;
    const uncut = ids.length;
    if (uncut <= most) return { ids, uncut };
    const special = ids.length - plain.length;
    const before = ids.findIndex((_, i) => plain.every((id, j) => ids[i + j] === id));
    const room = most - special;
    const cut = record.truncation_side === "left" ? plain.slice(plain.length - room) : plain.slice(0, room);
    return { ids: [...ids.slice(0, before), ...cut, ...ids.slice(before + plain.length)], uncut };
  };
}

function scored(logits, { problem_type: kind, labels, threshold }) {
  if (kind === NUMBER) return { rows: [{ label: "value", score: logits[0] }], chosen: ["value"], shares: false };
  const most = Math.max(...logits);
  const exponents = logits.map((value) => Math.exp(value - most));
  const sum = exponents.reduce((a, b) => a + b);
  const scores = kind === MULTI ? logits.map((value) => 1 / (1 + Math.exp(-value))) : exponents.map((e) => e / sum);
  const rows = labels.map((label, i) => ({ label, score: scores[i] })).sort((a, b) => b.score - a.score);
  const chosen = kind === MULTI ? rows.filter((row) => row.score >= threshold) : rows.slice(0, 1);
  return { rows, chosen: chosen.map((row) => row.label), shares: true };
}
