// A .tflite file that alexnet convert wrote, opened: labels, preprocessing, and the network in the LiteRT web runtime.

import {loadAndCompile, loadLiteRt, supportsFeature, Tensor} from "@litertjs/core";

import {UserError} from "./errors.js";
import {centralCrop} from "./preprocessing.js";

const TOP = 5;  // classes in an answer
const NONE = "none of these";  // what is answered where no class reaches the manifest's min_probability
const RUNTIME = new URL("node_modules/@litertjs/core/wasm/", import.meta.url).href;

// Starts the runtime and returns the number of its threads. Threads need the two headers that alexnet serve-page sends.
export async function startRuntime() {
  if (typeof WebAssembly === "undefined") throw new UserError("This browser has no WebAssembly, which the network needs.");
  const threads = globalThis.crossOriginIsolated && await supportsFeature("relaxedSimd") && await supportsFeature("threads");
  await loadLiteRt(RUNTIME, {threads});
  return threads ? navigator.hardwareConcurrency : 1;
}

// Of a part of a network, which gives features, there are no labels until it is taught some: `learn`.
export class Network {
  // `content` is a Uint8Array of the whole file. Throws UserError if the page cannot run it.
  static async open(content, name) {
    let labels, manifest, quantization, isWhole;
    try {
      const {files, start} = await unzip(content, ["labels.txt", "manifest.json"]);
      manifest = JSON.parse(files["manifest.json"]);
      isWhole = await isAsWritten(content.subarray(0, start), manifest.flatbuffer_sha256);
      labels = manifest.missing ? [] : files["labels.txt"].replace(/\r?\n$/, "").split(/\r?\n/);
      quantization = outputQuantization(content, labels.length);
    } catch (error) {
      console.error(error);
      throw new UserError(`${name} is not a .tflite file that alexnet convert wrote, or it is damaged.`);
    }
    if (isWhole === false) {
      throw new UserError(`${name} is damaged: its network is not the one that alexnet convert wrote; copy it again, or convert again.`);
    }
    const model = await loadAndCompile(content, {accelerator: "wasm"});
    const opened = new Network(model, labels, manifest, quantization);
    opened.isCompared = isWhole !== null;
    if (opened._input.shape[0] !== 1) {
      opened.close();
      throw new UserError(`${name} has no fixed batch of one, which the web runtime needs; export and convert it again.`);
    }
    const {image_size: size, channels} = opened.pixels;
    await opened.outputs(new Uint8Array(size * size * channels));  // the first run is slow, and no measure of the others
    return opened;
  }

  constructor(model, labels, manifest, quantization) {
    Object.assign(this, {labels, manifest, pixels: manifest.preprocessing});
    this.isPart = Boolean(manifest.missing);
    this._model = model;
    [this._input] = model.getInputDetails();
    const output = model.getOutputDetails().find(({shape}) => this.isPart || shape.at(-1) === labels.length);
    [this._output, this.units] = [output.name, output.shape.at(-1)];
    this._quantization = quantization;
  }

  // Answers from now on with `labels`, by a Head on the features of a part of a network.
  learn(labels, head) {
    Object.assign(this, {labels, head});
  }

  // A probability a class for the pixels that `centralCrop` gives.
  async probabilities(pixels) {
    const outputs = await this.outputs(pixels);
    return this.head ? this.head.probabilities(outputs) : outputs;
  }

  // What the network puts out for them: probabilities, or features of a part of one.
  async outputs(pixels) {
    const array = this._input.dtype === "uint8" ? pixels : Float32Array.from(pixels);
    const input = new Tensor(array, this._input.shape);
    const outputs = await this._model.run({[this._input.name]: input});
    const answer = Float32Array.from(await outputs[this._output].data());
    for (const tensor of [input, ...Object.values(outputs)]) tensor.delete();
    const {scale, zeroPoint} = this._quantization;
    return answer.map((value) => (value - zeroPoint) * scale);
  }

  // The best classes of an ImageData, [{name, probability}, ...], best first, and the milliseconds that the network took.
  async classify(picture) {
    const pixels = centralCrop(picture, this.pixels);
    const begin = performance.now();
    const probabilities = await this.probabilities(pixels);
    const milliseconds = performance.now() - begin;
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    const best = order.slice(0, TOP).map((index) => ({name: this.labels[index], probability: probabilities[index]}));
    if (best[0].probability < Math.fround(this.manifest.min_probability ?? 0)) {
      best.unshift({name: NONE, probability: 1 - best[0].probability});  // that the best class is wrong
      best.pop();
    }
    return {best, milliseconds};
  }

  close() {
    this._model.delete();
  }
}

// Whether `network`, all that stands before the archive, has the digest that alexnet convert wrote down; also where it wrote none, as in
// files of earlier versions. null: this browser computes none, as for pages that come over plain http.
async function isAsWritten(network, digest) {
  if (digest == null) return true;
  if (!globalThis.crypto?.subtle) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", network));
  return digest === [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// {files, start}: the texts of the `wanted` files of the zip archive at the end of `content`, and where the first of its files begins.
// Throws an Error if one is not what its checksum says. Whatever stands before the archive does not count.
async function unzip(content, wanted) {
  const view = viewOf(content);
  let end = content.length - 22;  // of the end record, without the comment that may follow it
  while (view.getUint32(end, true) !== 0x06054b50) end--;
  let entry = end - view.getUint32(end + 12, true);
  const before = entry - view.getUint32(end + 16, true);  // 0 where offsets count from the start of the file
  const files = {};
  let first = content.length;
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const name = textOf(content.subarray(entry + 46, entry + 46 + view.getUint16(entry + 28, true)));
    const header = before + view.getUint32(entry + 42, true);
    first = Math.min(first, header);
    const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    const packed = content.subarray(start, start + view.getUint32(entry + 20, true));
    if (wanted.includes(name)) {
      const bytes = view.getUint16(entry + 10, true) ? await inflate(packed) : packed;
      if (crc32(bytes) !== view.getUint32(entry + 16, true)) throw new Error(`The checksum of ${name} does not match.`);
      files[name] = textOf(bytes);
    }
    entry += 46 + view.getUint16(entry + 28, true) + view.getUint16(entry + 30, true) + view.getUint16(entry + 32, true);
  }
  return {files, start: first};
}

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum >>> 1 ^ (sum & 1 && 0xedb88320);
  }
  return ~sum >>> 0;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// {scale, zeroPoint} of the output that has a value a class, or of the first if there are no classes: the runtime gives an integer
// output as it is. Field numbers are those of TensorFlow Lite's schema.fbs.
function outputQuantization(content, classes) {
  const view = viewOf(content);
  const subgraph = tableAt(view, listAt(view, view.getUint32(0, true), 2), 0);
  const outputs = listAt(view, subgraph, 2);
  for (let output = 0; output < view.getUint32(outputs, true); output++) {
    const tensor = tableAt(view, listAt(view, subgraph, 0), view.getInt32(outputs + 4 + 4 * output, true));
    const shape = listAt(view, tensor, 0);
    if (classes && view.getInt32(shape + 4 * view.getUint32(shape, true), true) !== classes) continue;
    const quantization = listAt(view, tensor, 4);
    const scales = quantization && listAt(view, quantization, 2);
    if (!scales) return {scale: 1, zeroPoint: 0};
    return {scale: view.getFloat32(scales + 4, true), zeroPoint: view.getInt32(listAt(view, quantization, 3) + 4, true)};
  }
  throw new Error("No output has a value a class.");
}

// Where field `number` of a FlatBuffers table points to, or 0 if the table leaves it out.
function listAt(view, table, number) {
  const vtable = table - view.getInt32(table, true);
  const slot = 4 + 2 * number;
  const field = slot < view.getUint16(vtable, true) ? view.getUint16(vtable + slot, true) : 0;
  return field && table + field + view.getUint32(table + field, true);
}

// The table that element `index` of a list of tables is.
function tableAt(view, list, index) {
  const element = list + 4 + 4 * index;
  return element + view.getUint32(element, true);
}

function viewOf(content) {
  return new DataView(content.buffer, content.byteOffset, content.byteLength);
}

function textOf(bytes) {
  return new TextDecoder().decode(bytes);
}
