// The page: a .tflite file and a picture in, the best classes out.

import {UserError} from "./errors.js";
import {decode, seenSquare} from "./preprocessing.js";

const MODEL = "model.tflite";  // beside the page; where there is none, the person chooses a file
const LONGEST_SIDE = 800;  // of the picture as it is shown, in pixels
const element = (id) => document.getElementById(id);

let artifacts, threads;  // set once the runtime has started
let classifier;  // of the file that was opened last
let picture;  // {name, levels, bitmap}, the one that was opened last

async function start() {
  try {
    artifacts = await import("./artifacts.js");
    threads = await artifacts.startRuntime();
  } catch (error) {
    console.error(error);
    showStatus("No network.");
    return tell(error instanceof UserError ? error.message
      : "The LiteRT runtime is not beside this page (`make browser` brings it), or this browser is too old for it.");
  }
  watchFiles();
  const response = await fetch(MODEL);
  if (response.ok) return guarded(MODEL, () => openModel(MODEL, response.body, Number(response.headers.get("content-length"))));
  showStatus("Choose a .tflite file that tools/convert_tflite.py wrote, or drop it here.");
}

function watchFiles() {
  for (const id of ["model-file", "picture-file"]) {
    const input = element(id);
    input.disabled = false;
    input.addEventListener("change", () => {
      openFile(input.files[0]);
      input.value = "";  // so that the same file can be chosen again
    });
  }
  const drop = element("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    openFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => openFile(event.clipboardData.files[0]));
}

function openFile(file) {
  if (!file) return;  // text was dropped, or the choice was cancelled
  guarded(file.name, () => file.name.endsWith(".tflite") ? openModel(file.name, file.stream(), file.size) : openPicture(file));
}

// Does what opens the file `name`, and tells in one line why it cannot be done.
async function guarded(name, open) {
  tell("");
  try {
    await open();
  } catch (error) {
    console.error(error);
    showStatus(classifier ? classifier.status : "No network yet: choose a .tflite file.");
    tell(error instanceof UserError ? error.message : `${name} cannot be used (${error.message}).`);
  }
  element("progress").hidden = true;
}

// Makes the file that `stream` gives, of `size` bytes (0: not known), the page's network.
async function openModel(name, stream, size) {
  const begin = performance.now();
  const content = await readAll(stream, size);
  showStatus("Preparing the network …");
  await new Promise((resolve) => setTimeout(resolve, 50));  // the browser paints that, then is busy for a moment
  const opened = await artifacts.Classifier.open(content, name);
  classifier?.close();
  classifier = opened;
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  classifier.status = `${name}: ${facts(opened, content.length)}. Ready after ${seconds} s.`;
  showStatus(classifier.status);
  element("known-title").textContent = `The ${opened.labels.length} classes that it knows`;
  element("known").textContent = opened.labels.join(", ");
  element("labels").hidden = false;
  await answer();
}

async function readAll(stream, size) {
  showStatus(size ? `Loading ${megabytes(size)} …` : "Loading …");
  const progress = element("progress");
  progress.hidden = false;
  progress.removeAttribute("value");
  let done = 0;
  const counter = new TransformStream({transform(chunk, controller) {
    done += chunk.length;
    if (size) progress.value = Math.min(done / size, 1);
    controller.enqueue(chunk);
  }});
  return new Uint8Array(await new Response(stream.pipeThrough(counter)).arrayBuffer());
}

function facts({manifest}, size) {
  const precision = {none: "float32", dynamic: "weights in 8 bits"}[manifest.quantization] ?? manifest.quantization;
  return [manifest.variant, precision, megabytes(size)].join(", ");
}

function megabytes(bytes) {
  return `${Math.ceil(bytes / 1e6)} MB`;
}

async function openPicture(file) {
  const levels = await decode(file);
  picture = {name: file.name, levels, bitmap: await createImageBitmap(levels)};
  await answer();
}

// Shows the picture and, where there is a network, its answer.
async function answer() {
  if (!picture) return;
  const asked = picture;
  showPicture(asked);
  if (!classifier) return;
  const {best, milliseconds} = await classifier.classify(asked.levels);
  if (asked !== picture) return;  // another was chosen in the meantime
  element("classes").replaceChildren(...best.map(row));
  const where = threads === 1 ? "one thread" : `${threads} threads`;
  element("time").textContent = `The network took ${milliseconds.toFixed(0)} ms on ${where}.`;
  element("answer").hidden = false;
  element("answer").scrollIntoView({block: "nearest"});  // on a telephone it is below the picture
}

function row({name, probability}) {
  const tags = ["li", "div", "span", "data", "span", "span"];
  const [item, line, label, figure, bar, filled] = tags.map((tag) => document.createElement(tag));
  label.textContent = name;
  figure.textContent = `${(100 * probability).toFixed(1)} %`;
  figure.value = probability;
  filled.style.width = `${100 * probability}%`;
  bar.className = "bar";
  bar.append(filled);
  line.append(label, figure);
  item.append(line, bar);
  return item;
}

// Dims what the network does not look at.
function showPicture({name, bitmap}) {
  const canvas = element("picture");
  const scale = Math.min(LONGEST_SIDE / Math.max(bitmap.width, bitmap.height), 4);
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.setAttribute("aria-label", name);
  canvas.hidden = false;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (classifier) {
    const {left, top, width, height} = seenSquare(bitmap.width, bitmap.height, classifier.pixels);
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(left * scale, top * scale, width * scale, height * scale);
    context.fillStyle = "rgb(0 0 0 / 50%)";
    context.fill("evenodd");
  }
  element("invitation").textContent = classifier ? "The bright square is what the network looks at." : "Waiting for the network.";
}

function showStatus(text) {
  element("model-status").textContent = text;
}

// One line for the person about what is wrong; empty: nothing is.
function tell(text) {
  element("error").textContent = text;
  if (text) element("error").scrollIntoView({block: "nearest"});
}

start();
