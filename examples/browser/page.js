// The page: a .tflite file and a picture in, the best classes out, and what in the picture they rest on. A file of a part of a network
// is taught classes first: learning.js.

import {UserError} from "./errors.js";
import * as learning from "./learning.js";
import {drawn, occlusion} from "./looking.js";
import {centralCrop, decode, seenSquare} from "./preprocessing.js";

const MODEL = "model.tflite";  // beside the page; where there is none, the person chooses a file
const LONGEST_SIDE = 800;  // of the picture as it is shown, in pixels
const element = (id) => document.getElementById(id);

let artifacts, threads;  // set once the runtime has started
let network;  // of the file that was opened last
let picture;  // {name, levels, bitmap}, the one that was opened last
let queue = Promise.resolve(), latest = 0;  // what is to be done, one after the other

async function start() {
  try {
    artifacts = await import("./artifacts.js");
    threads = await artifacts.startRuntime();
  } catch (error) {
    console.error(error);
    showStatus("No network.");
    return tell(error instanceof UserError ? error.message
      : "The LiteRT runtime is not next to this page (`make browser` installs it), or this browser is too old for it.");
  }
  watchFiles();
  watchLearning();
  const response = await fetch(MODEL, {cache: "no-cache"});  // that of today, whatever the browser has kept
  if (response.ok) {
    const name = nameOf(response) ?? MODEL;
    return guarded(name, () => openModel(name, response.body, Number(response.headers.get("content-length"))));
  }
  showStatus("Choose a .tflite file that alexnet convert wrote, or drop it here.");
}

// What a server that tells it calls the file that it has sent under another name.
function nameOf(response) {
  const told = /filename\*=UTF-8''(.+)/.exec(response.headers.get("content-disposition"));
  return told && decodeURIComponent(told[1]);
}

function watchFiles() {
  for (const id of ["model-file", "picture-file", "learnt-file"]) {
    element(id).disabled = false;
    whenChosen(element(id), ([file]) => openFile(file));
  }
  element("look").addEventListener("click", () => guarded("The map", look));
  const drop = element("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    dropped(event.target.closest?.(".class"), event.dataTransfer);
  });
  document.addEventListener("paste", (event) => openOne([...event.clipboardData.files], "pasted"));
}

// Calls `chosen` with the files of an input, each time that some are chosen.
function whenChosen(input, chosen) {
  input.addEventListener("change", () => {
    chosen([...input.files]);
    input.value = "";  // so that the same file can be chosen again
  });
}

// What is dropped on a class is of that class, and so are folders of the class that they are called after. All else is opened.
function dropped(card, transfer) {
  const {files, folders} = learning.sorted(transfer);
  if (card && !folders.length) return guarded("What was dropped", () => learning.addPictures(card, files));
  if (folders.length) {
    return guarded("What was dropped", async () => {
      if (!network?.isPart) throw new UserError("Folders are for a network that learns classes; drop one picture, or open such a network.");
      if (files.length) throw new UserError(`Folders and files were dropped together (${learning.some(files.map(({name}) => name))}), and nothing was added; drop the folders alone, and pictures on the class that they show.`);
      await learning.addFolders((await Promise.all(folders.map((folder) => learning.filesBelow(folder)))).flat());
    });
  }
  openOne(files, "dropped");
}

function openOne(files, come) {
  if (files.length > 1) return tell(`${files.length} files were ${come} here; ${come === "pasted" ? "paste" : "drop"} one, or drop several on the class that they show.`);
  openFile(files[0]);
}

function watchLearning() {
  const works = {
    "add-class": () => learning.addCard().querySelector("[type=text]").select(),
    "camera": () => learning.toggleCamera(() => tell("The camera has stopped; turn it on again, or choose picture files.")),
    "learn": async () => {
      showProgress();
      show(await learning.learn(network, (share) => element("progress").value = share));
      review();
      await answer();
    },
    "save": () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([learning.saved(network)], {type: "application/json"}));
      link.download = "learnt.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);  // it may still be read
    },
    "snap": async () => openPicture(await learning.snapshot()),
  };
  for (const [id, work] of Object.entries(works)) element(id).addEventListener("click", () => guarded(element(id).textContent, work));
  whenChosen(element("folder"), (files) => guarded("The folder", () => {
    return learning.addFolders(files.map((file) => ({path: file.webkitRelativePath, file})));
  }));
  // Cards come and go: their clicks and files are heard here.
  const cards = element("cards");
  cards.addEventListener("click", ({target}) => {
    const card = target.closest(".class");
    if (target.matches(".remove")) card.remove();
    if (target.matches(".snap")) guarded("The camera", async () => learning.addPictures(card, [await learning.snapshot()]));
  });
  new MutationObserver(review).observe(cards, {childList: true, subtree: true});
  cards.addEventListener("change", ({target}) => {
    if (target.type !== "file") return network?.head && guarded("The name", rename);
    const files = [...target.files];
    target.value = "";
    guarded("What was chosen", () => learning.addPictures(target.closest(".class"), files));
  });
}

function openFile(file) {
  if (!file) return;  // text was dropped, or the choice was cancelled
  guarded(file.name, () => {
    const name = file.name.toLowerCase();
    if (name.endsWith(".tflite")) return openModel(file.name, file.stream(), file.size);
    return name.endsWith(".json") ? openLearnt(file) : openPicture(file);
  });
}

// Does `work` when all before it is done, and tells in one line why it cannot be done with `name`. It hears by a function whether
// nothing else was asked for since.
function guarded(name, work) {
  const turn = ++latest;
  return queue = queue.then(async () => {
    tell("");
    try {
      await work(() => turn === latest);
    } catch (error) {
      console.error(error);
      showStatus(network ? network.status : "No network yet: choose a .tflite file.");
      tell(error instanceof UserError ? error.message : `${name} cannot be used (${error.message}).`);
    }
    element("progress").hidden = true;
  });
}

// Makes the file that `stream` gives, of `size` bytes (0: not known), the page's network.
async function openModel(name, stream, size) {
  const begin = performance.now();
  const content = await readAll(stream, size);
  showStatus("Preparing the network …");
  await new Promise((resolve) => setTimeout(resolve, 50));  // the browser paints that, then is busy for a moment
  const opened = await artifacts.Network.open(content, name);
  network?.close();
  network = opened;
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const doubt = opened.isCompared ? "" : " It was not checked for damage: browsers can do that only for pages over https, or from this machine itself.";
  network.status = `${name}: ${facts(opened, content.length)}. Ready after ${seconds} s.${doubt}`;
  showStatus(network.status);
  element("learning").hidden = !network.isPart;
  if (!network.isPart) learning.turnCameraOff();  // its button is hidden
  while (network.isPart && document.querySelectorAll(".class").length < 2) learning.addCard();
  show("");
  await answer();
}

async function openLearnt(file) {
  if (!network?.isPart) throw new UserError(`${file.name} is for a network that learns classes; choose the .tflite file that it was learnt on first.`);
  show(await learning.open(network, file));
  await answer();
}

// Shows the classes of the network, and what there is to say of how they were learnt.
function show(text) {
  const {labels} = network;
  element("known-title").textContent = `The ${labels.length} classes that it knows`;
  element("known").textContent = labels.join(", ");
  element("labels").hidden = !labels.length;
  element("learnt").textContent = text;
  element("save").disabled = !network.head;
}

// Says whether the classes are still those that were learnt; what is not is not saved.
function review() {
  if (!network?.head) return;
  const text = learning.stillLearnt(network);
  if (text === null) {
    element("learnt").textContent = "The classes have changed since; press Learn.";
    element("save").disabled = true;
  } else {
    show(text);
  }
}

// Answers with the names that classes have been given.
async function rename() {
  const before = network.labels.join("\n");
  review();
  if (network.labels.join("\n") !== before) await answer();
}

async function readAll(stream, size) {
  showStatus(size ? `Loading ${megabytes(size)} …` : "Loading …");
  const progress = showProgress();
  let done = 0;
  const counter = new TransformStream({transform(chunk, controller) {
    done += chunk.length;
    if (size) progress.value = Math.min(done / size, 1);
    controller.enqueue(chunk);
  }});
  return new Uint8Array(await new Response(stream.pipeThrough(counter)).arrayBuffer());
}

function showProgress() {
  const progress = element("progress");
  progress.hidden = false;
  progress.removeAttribute("value");
  return progress;
}

function facts({manifest, isPart}, size) {
  const precision = {none: "float32", dynamic: "weights in 8 bits"}[manifest.quantization] ?? manifest.quantization;
  return [manifest.variant, ...(isPart ? [`features of ${manifest.features}`] : []), precision, megabytes(size)].join(", ");
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
  element("answer").hidden = !network?.labels.length;
  if (element("answer").hidden) return;
  const {best, milliseconds} = await network.classify(asked.levels);
  element("classes").replaceChildren(...best.map(row));
  const where = threads === 1 ? "one thread" : `${threads} threads`;
  element("looked").textContent = "";
  element("time").textContent = `The network took ${milliseconds.toFixed(0)} ms on ${where}.`;
  element("answer").scrollIntoView({block: "nearest"});  // on a telephone it is below the picture
}

// Lays over the picture what its best class loses where a square hides it.
async function look(isLatest) {
  const progress = showProgress(), pixels = centralCrop(picture.levels, network.pixels);
  const probabilities = await network.probabilities(pixels);
  const label = probabilities.indexOf(Math.max(...probabilities));
  const map = await occlusion(network, pixels, label, (share) => {
    progress.value = share;
    return isLatest();
  });
  if (!map) return;  // something else was asked for
  showPicture(picture, drawn(map, network.pixels.image_size));
  const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
  const least = map.reduce((least, one) => Math.min(least, one)), most = map.reduce((most, one) => Math.max(most, one));
  element("looked").textContent = `Red: ${network.labels[label]} loses probability where a grey square hides the picture; blue: it gains some. ${points(least)} to ${points(most)} points are lost.`;
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

// Dims what the network does not look at; `overlay`, an ImageData, is laid over the rest.
function showPicture({name, bitmap}, overlay = null) {
  const canvas = element("picture");
  const scale = Math.min(LONGEST_SIDE / Math.max(bitmap.width, bitmap.height), 4);
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.setAttribute("aria-label", name);
  canvas.hidden = false;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (network) {
    const {left, top, width, height} = seenSquare(bitmap.width, bitmap.height, network.pixels);
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(left * scale, top * scale, width * scale, height * scale);
    context.fillStyle = "rgb(0 0 0 / 50%)";
    context.fill("evenodd");
    if (overlay) {
      const layer = new OffscreenCanvas(overlay.width, overlay.height);
      layer.getContext("2d").putImageData(overlay, 0, 0);
      context.drawImage(layer, left * scale, top * scale, width * scale, height * scale);
    }
  }
  element("invitation").textContent = !network ? "Waiting for the network."
    : network.labels.length ? "The bright square is what the network looks at." : "The network has learnt no classes yet.";
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
