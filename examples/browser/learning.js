// What the page learns: pictures of each class in, a projection on the features of a part of a network out, and that to a file.

import {UserError} from "./errors.js";
import {fit, Head} from "./head.js";
import {centralCrop, decode} from "./preprocessing.js";

const MOST_PICTURES = 250;  // of more, the page would stand still for long
const THUMBNAIL = 64;  // pixels of a side
const FORMAT = "alexnet_tf, learnt in the browser, 1";
const NAMED = 10;  // files in a message, at most
const LARGEST_FILE = 2 ** 27;  // bytes of what was learnt: some thousand classes
const element = (id) => document.getElementById(id);

let video = null;  // the camera's, once it is on
let snapshots = 0;

let learnt = null;  // of what was learnt last: {text, pictures: [number of each class]}

export function addCard(name = `class ${document.querySelectorAll(".class").length + 1}`) {
  const card = element("card").content.cloneNode(true).firstElementChild;
  card.querySelector("[type=text]").value = card.ours = name;
  card.pictures = [];  // {file, button}, with the features that a network has found in it
  element("cards").append(card);
  return card;
}

// Adds files to a class. Throws UserError for those that are no pictures; the others are added.
export async function addPictures(card, files) {
  tellBad(await add(card, files), files.length);
}

// The names of those that are no pictures; the others are added.
async function add(card, files) {
  const bad = [];
  for (const file of files) {
    try {
      const bitmap = await createImageBitmap(await decode(file));
      card.pictures.push({file, button: thumbnail(card, file, bitmap)});
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      bad.push(file.name);
    }
  }
  return bad;
}

function tellBad(bad, count) {
  if (!bad.length) return;
  const others = count > bad.length ? " The others were added." : "";
  throw new UserError(`No pictures that this browser can open: ${some(bad)}; choose JPEG, PNG or WebP files.${others}`);
}

// The first of names, and how many more there are.
export function some(names) {
  return names.slice(0, NAMED).join(", ") + (names.length > NAMED ? ` and ${names.length - NAMED} more` : "");
}

// What a DataTransfer holds: {files: [File, ...], folders: [FileSystemEntry, ...]}. It lists folders among its files too.
export function sorted(transfer) {
  const entries = [...transfer.items].filter(({kind}) => kind === "file").map((item) => item.webkitGetAsEntry?.());
  return {
    files: [...transfer.files].filter((_, number) => !entries[number]?.isDirectory),
    folders: entries.filter((entry) => entry?.isDirectory),
  };
}

function thumbnail(card, file, bitmap) {
  const button = document.createElement("button"), canvas = document.createElement("canvas");
  const side = Math.min(bitmap.width, bitmap.height);
  canvas.width = canvas.height = THUMBNAIL;
  canvas.getContext("2d").drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, THUMBNAIL, THUMBNAIL);
  button.type = "button";
  button.title = `Take ${file.name} out`;
  button.append(canvas);
  button.addEventListener("click", () => {
    card.pictures = card.pictures.filter((picture) => picture.button !== button);
    button.remove();
  });
  card.querySelector(".thumbnails").append(button);
  return button;
}

// Adds the pictures of folders, [{path, file}, ...], to the classes that are called as the folders in which they lie.
export async function addFolders(found) {
  const shown = found.filter(({path}) => !path.split("/").some((part) => part.startsWith(".")));
  const folders = new Map();  // by name, {path, files}
  for (const {path: whole, file} of shown) {
    const path = whole.split("/").slice(0, -1).join("/");
    const name = oneForm(path.split("/").at(-1));
    if (!folders.has(name)) folders.set(name, {path, files: []});
    const folder = folders.get(name);
    if (folder.path !== path) throw new UserError(`${folder.path} and ${path} would be one class, and nothing was added; choose the folder of one of them, or give one another name.`);
    folder.files.push(file);
  }
  if (!folders.size) throw new UserError("The folder holds no files; choose one with a folder of pictures for each class.");
  for (const card of document.querySelectorAll(".class")) {
    if (!card.pictures.length && nameOf(card) === card.ours) card.remove();  // nobody has touched it
  }
  const bad = [];
  for (const [name, {files}] of folders) {
    const card = [...document.querySelectorAll(".class")].find((card) => nameOf(card) === name) ?? addCard(name);
    bad.push(...(await add(card, files)).map((file) => `${name}/${file}`));
  }
  tellBad(bad, shown.length);
}

function nameOf(card) {
  return oneForm(card.querySelector("[type=text]").value);
}

// A name as it is compared: systems write an umlaut as one character or as two, which look alike.
function oneForm(name) {
  return name.normalize("NFC").trim();
}

// [{path, file}, ...] of all that lies below what was dropped: a FileSystemEntry.
export async function filesBelow(entry, path = entry.name) {
  if (entry.isFile) return [{path, file: await new Promise((resolve, reject) => entry.file(resolve, reject))}];
  const reader = entry.createReader(), found = [];
  for (;;) {  // a reader gives some at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) found.push(...await filesBelow(inner, `${path}/${inner.name}`));
  }
}

// Teaches `network` the classes of the page by their pictures, and returns what there is to say of it. `tell` hears the share of
// them that the network has seen.
export async function learn(network, tell) {
  const cards = [...document.querySelectorAll(".class")];
  const names = cards.map(nameOf);
  check(cards, names);
  const pictures = cards.flatMap((card, label) => card.pictures.map((picture) => ({picture, label})));
  const begin = performance.now();
  for (const [number, {picture}] of pictures.entries()) {
    if (picture.network !== network) {  // none has seen it yet, or another
      picture.features = await network.outputs(centralCrop(await decode(picture.file), network.pixels));
      picture.network = network;
    }
    tell((number + 1) / pictures.length);
    await new Promise((resolve) => setTimeout(resolve));  // the browser paints
  }
  const {head, decay, right, leftOut} = fit(pictures.map(({picture}) => picture.features), pictures.map(({label}) => label), cards.length);
  if (!head.kernel.every(Number.isFinite) || !head.bias.every(Number.isFinite)) {
    throw new UserError("The features of these pictures are not finite numbers; nothing was learnt.");
  }
  network.learn(names, head);
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const tested = leftOut ? ` Left out in turn, ${right} of ${leftOut} were right (decay ${decay}).` : " Two pictures of a class would tell how right it is.";
  learnt = {text: `Learnt ${names.length} classes from ${pictures.length} pictures in ${seconds} s.${tested}`, pictures: cards.map((card) => card.pictures.length)};
  return learnt.text;
}

function check(cards, names) {
  if (cards.length < 2) throw new UserError("One class cannot be told from others; add another.");
  names.forEach((name, number) => {
    if (!name) throw new UserError(`Class number ${number + 1} has no name; give it one.`);
    if (names.indexOf(name) !== number) throw new UserError(`Two classes are called ${name}; give one of them another name.`);
    if (!cards[number].pictures.length) throw new UserError(`${name} has no pictures; add some, or remove the class.`);
  });
  const count = cards.reduce((sum, card) => sum + card.pictures.length, 0);
  if (count > MOST_PICTURES) throw new UserError(`These are ${count} pictures, and ${MOST_PICTURES} are the most that this page learns from; alexnet finetune takes any number.`);
}

// What `network` has learnt, as the text of a file.
export function saved(network) {
  return JSON.stringify({
    format: FORMAT,
    network: identity(network),
    classes: network.labels,
    pictures: learnt.pictures,
    text: learnt.text,
    kernel: toBase64(network.head.kernel),
    bias: toBase64(network.head.bias),
  });
}

// Gives `network` what was saved in `file`, and returns what there is to say of it.
export async function open(network, file) {
  let stored, head;
  try {
    if (file.size > LARGEST_FILE) throw new RangeError(`${file.size} bytes`);
    stored = JSON.parse(await file.text());
    if (stored.format !== FORMAT) throw new TypeError(`format ${stored.format}`);
    const {classes, pictures, text} = stored;
    if (![...classes, text].every((one) => typeof one === "string") || classes.length < 2 || pictures.length !== classes.length) {
      throw new TypeError("classes");
    }
    head = new Head(fromBase64(stored.kernel), fromBase64(stored.bias));
    if (head.bias.length !== classes.length || !Number.isInteger(head.units)) throw new RangeError("sizes");
    if (![...head.kernel, ...head.bias].every(Number.isFinite)) throw new RangeError("numbers");
  } catch (error) {
    console.error(error);
    throw new UserError(`${file.name} is not a file that this page saved, or it is damaged.`);
  }
  if (JSON.stringify(stored.network) !== JSON.stringify(identity(network)) || head.units !== network.units) {
    throw new UserError(`${file.name} was learnt on another network than the one that is open; choose that .tflite file first.`);
  }
  network.learn(stored.classes, head);
  learnt = {text: stored.text, pictures: stored.pictures};
  return learnt.text;
}

// What features are of: the same weights and pixels; in another precision they are nearly the same.
function identity({manifest, units}) {
  return {weights_sha256: manifest.weights_sha256, features: manifest.features, units, preprocessing: manifest.preprocessing};
}

function toBase64(numbers) {
  let text = "";
  for (const byte of new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text) {
  return new Float32Array(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}

// Shows what the camera sees, or turns it off again. Throws UserError if there is none.
export async function toggleCamera() {
  const view = element("view");
  if (video) {
    for (const track of video.getTracks()) track.stop();
    video = null;
  } else {
    try {
      video = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    } catch (error) {
      throw new UserError(`The camera cannot be used (${error.message}); allow it, or choose picture files.`);
    }
    view.srcObject = video;
    await view.play();
  }
  document.body.classList.toggle("with-camera", Boolean(video));
  element("camera").textContent = video ? "Turn the camera off" : "Use the camera";
}

// What the camera sees now, as a picture file.
export async function snapshot() {
  const view = element("view"), canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  return new File([await canvas.convertToBlob()], `camera ${++snapshots}.png`, {type: "image/png"});
}
