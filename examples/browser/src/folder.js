// The folder of an export: each file is fetched once and compared with the size and SHA-256 in export.json.

const FORMAT_VERSION = 1;
const MOST_MANIFEST = 64 * 2 ** 20;

export class Folder {
  /** `progress(loaded, total)` is called while a file arrives. */
  constructor(url, progress) {
    this.url = url;
    this.progress = progress;
    this.bytes = {}; // fetched, by file name
  }

  async open() {
    if (!globalThis.crypto?.subtle) throw new Error("this page must be opened by https, or from this machine");
    const data = await this.fetch("export.json", MOST_MANIFEST);
    this.manifest = JSON.parse(new TextDecoder().decode(data));
    const version = this.manifest.format_version;
    if (version !== FORMAT_VERSION) throw new Error(`export.json has format version ${version}, expected ${FORMAT_VERSION}`);
    return this.manifest;
  }

  /** Return the content of a file that the manifest names. */
  async read(name) {
    const stated = Object.hasOwn(this.manifest.files, name) ? this.manifest.files[name] : null;
    if (!stated) throw new Error(`export.json lists no file ${name}`);
    const data = await this.fetch(name, stated.bytes);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    const actual = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (data.length !== stated.bytes || actual !== stated.sha256) throw new Error(`${name} is damaged or was edited`);
    return data;
  }

  /** Return a file's float32 tensors by name. The file has the safetensors format. */
  async tensors(name) {
    const data = await this.read(name);
    const length = Number(new DataView(data.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + length)));
    const tensors = {};
    for (const [key, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
      if (key === "__metadata__") continue;
      if (dtype !== "F32") throw new Error(`${name}: '${key}' is ${dtype}, expected F32`);
      const at = 8 + length;
      tensors[key] = { shape, values: new Float32Array(data.buffer.slice(at + start, at + end)) };
    }
    return tensors;
  }

  async fetch(name, most) {
    const response = await fetch(this.url + name, { cache: "no-cache" }); // asks whether a stored copy is still current
    if (!response.ok) throw new Error(`${this.url}${name} can't be loaded: HTTP ${response.status}`);
    const chunks = [];
    let size = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      size += value.length;
      if (size > most) throw new Error(`${name} has more than ${most} bytes`);
      this.bytes[name] = size;
      this.progress(size, most);
    }
    const data = new Uint8Array(size);
    let at = 0;
    for (const chunk of chunks) {
      data.set(chunk, at);
      at += chunk.length;
    }
    return data;
  }
}
