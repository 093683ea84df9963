// The page: a text, a menu of adapters, the answer, and what it took.

import { Folder } from "./folder.js";
import { Pool, unsupported } from "./pool.js";

const EXPORT = "onnx/"; // beside this page
const WASM = "ort-wasm-simd-threaded.wasm";
const [form, text, menu, button, status, progress, table, facts] = ["#form", "#text", "#adapter", "button", "#status", "#progress", "#scores", "#facts"].map((name) => document.querySelector(name));
const measured = { first: null, last: null, runtime: 0 };

const folder = new Folder(EXPORT, (size, total) => {
  progress.max = total;
  progress.value = size;
});
const pool = new Pool(folder);

function megabytes(bytes) {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function element(name, content, classes = "") {
  const made = document.createElement(name);
  made.className = classes;
  made.append(content);
  return made;
}

function showFacts() {
  const loaded = folder.bytes;
  const total = Object.values(loaded).reduce((a, b) => a + b, measured.runtime);
  const ofAdapters = Object.entries(loaded).filter(([name]) => /^(adapters|heads)\//.test(name));
  const shown = {
    Loaded: megabytes(total),
    "of these, base": `${megabytes(loaded["base.onnx"] ?? 0)}, loaded ${pool.loads.base === 1 ? "once" : `${pool.loads.base} times`}`,
    "of these, runtime": megabytes(measured.runtime),
    "of these, adapters": `${megabytes(ofAdapters.reduce((sum, [, size]) => sum + size, 0))}, ${pool.loads.adapters} in memory`,
    "First answer": measured.first === null ? "–" : `${(measured.first / 1000).toFixed(2)} s after the page was opened`,
    "Last answer": measured.last === null ? "–" : `${measured.last.toFixed(0)} ms`,
  };
  facts.replaceChildren(...Object.entries(shown).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  Object.assign(facts.dataset, { bytes: total, base: loaded["base.onnx"] ?? 0, baseLoads: pool.loads.base, first: measured.first ?? "" });
}

function showAnswer({ rows, chosen, shares }) {
  table.tBodies[0].replaceChildren(
    ...rows.map(({ label, score }) => {
      const row = element("tr", "", chosen.includes(label) ? "chosen" : "");
      row.dataset.score = score;
      const share = element("td", "", "share");
      if (shares) share.append(Object.assign(document.createElement("meter"), { value: score, title: label }));
      row.append(element("td", label), element("td", score.toFixed(shares ? 4 : 3), "number"), share);
      return row;
    }),
  );
  table.hidden = false;
}

function fail(error) {
  table.hidden = progress.hidden = true;
  showFacts();
  status.className = "error";
  status.textContent = error.message;
}

let wanted = 0;
let queue = Promise.resolve();

/** Answer the text by the chosen adapter; of requests that wait, only the last is computed. */
function answer() {
  const number = ++wanted;
  status.className = "";
  queue = queue.then(async () => {
    if (number !== wanted) return;
    if (!text.value.trim()) throw new Error("The text is empty.");
    const began = performance.now();
    const result = await pool.answer(text.value, menu.value);
    measured.last = performance.now() - began;
    measured.first ??= performance.now();
    showAnswer(result);
    showFacts();
    const cut = result.tokens < result.uncut ? ` (the text has ${result.uncut} tokens and was cut to ${result.tokens})` : "";
    status.textContent = `${menu.value}: ${result.chosen.join(", ") || "no label"}${cut}`;
    table.dataset.answered = JSON.stringify([text.value, menu.value]);
  }).catch(fail);
  return queue;
}

async function open() {
  const manifest = await folder.open();
  for (const [name, { task }] of Object.entries(manifest.adapters)) {
    const reason = unsupported(task);
    const option = element("option", reason ? `${name} (${reason}: not on this page)` : name);
    Object.assign(option, { value: name, disabled: reason !== null });
    menu.append(option);
  }
  const usable = Array.from(menu.options).find((option) => !option.disabled);
  if (!usable) throw new Error(`${EXPORT} has no adapter that this page can run`);
  menu.value = usable.value;
  status.textContent = `Loading ${manifest.base.name} …`;
  const runtime = await fetch(WASM);
  if (!runtime.ok) throw new Error(`${WASM} can't be loaded: HTTP ${runtime.status}`);
  const wasm = await runtime.arrayBuffer();
  measured.runtime = wasm.byteLength;
  await pool.open(wasm);
  progress.hidden = true;
  menu.disabled = button.disabled = false;
  await answer();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  answer();
});
menu.addEventListener("change", answer);
text.addEventListener("input", () => setTimeout(() => pool.base && answer(), 150));
showFacts();
open().catch(fail);
