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

// Names of folders that archivers and file servers lay down: _NOBODYS_FOLDERS of alexnet_tf/picture_files.py, less those with a dot
// before them.
const NOBODYS_FOLDERS = ["__MACOSX", "@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "$RECYCLE.BIN",
  "System Volume Information", "lost+found"];
const SPLIT = "train(ing)?|test(ing)?|val(id(ation)?)?|eval(uation)?|dev";  // what splits are called, in any case
// Of a manifest's preprocessing: what features hang on.
const PREPROCESSING = ["image_size", "resize", "channels", "mean", "std"];

let video = null;  // the camera's, once it is on
let snapshots = 0;

// What was learnt last: {text, pictures: [number of each class], from}. `from` is what the page showed, [{card, pictures}, ...], and
// null where it came from a file.
let learnt = null;

export function addCard(name = `class ${document.querySelectorAll(".class").length + 1}`) {
  const card = element("card").content.cloneNode(true).firstElementChild;
  card.querySelector("[type=text]").value = card.ours = name;
  card.pictures = [];  // {file, key, button}, with the features that a network has found in it
  element("cards").append(card);
  return card;
}

// Adds files to a class. Throws UserError for those that are no pictures, and for those that it has already; the others are added.
export async function addPictures(card, files) {
  const {bad, known} = await add(card, files.map((file) => ({path: file.name, file})));
  tellLeftOut({bad, known}, files.length);
}

// Adds what [{path, file}, ...] holds, and returns the names of what it does not add: {bad, known}, those that are no pictures, and
// those that the class has already, however they came: of the same path below the class, size and time.
async function add(card, found) {
  const bad = [], known = [];
  for (const {path, file} of found) {
    const key = [path, file.size, file.lastModified].join("\n");
    if (card.pictures.some((picture) => picture.key === key)) {
      known.push(file.name);
      continue;
    }
    try {
      const bitmap = await createImageBitmap(await decode(file));
      card.pictures.push({file, key, button: thumbnail(card, file, bitmap)});
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      bad.push(file.name);
    }
  }
  return {bad, known};
}

// Throws UserError if any of `count` files were left out.
function tellLeftOut({bad, known, beside = []}, count) {
  const lines = [];
  if (bad.length) lines.push(`Not pictures that this browser can open: ${some(bad)}; choose JPEG, PNG or WebP files.`);
  if (known.length) lines.push(`Already there, and counted once: ${some(known)}.`);
  if (beside.length) lines.push(`Outside the class folders, so left out: ${some(beside)}.`);
  if (!lines.length) return;
  if (count > bad.length + known.length + beside.length) lines.push("The others were added.");
  throw new UserError(lines.join(" "));
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

// Adds the pictures of folders, [{path, file}, ...], to the classes that are called as the folders right below the one that was
// chosen or dropped, whatever folders are in them; where there are none, or none in one that was dropped together with it, as that one
// itself.
export async function addFolders(found) {
  const shown = withoutNobodys(found);
  if (!shown.length) throw new UserError("The folder holds no files; choose one with a folder of pictures for each class.");
  const {folders, beside} = classFolders(shown);
  for (const card of document.querySelectorAll(".class")) {
    if (!card.pictures.length && nameOf(card) === card.ours) card.remove();  // nobody has touched it
  }
  const leftOut = {bad: [], known: [], beside};
  for (const [name, {files}] of folders) {
    const card = [...document.querySelectorAll(".class")].find((card) => nameOf(card) === name) ?? addCard(name);
    for (const [kind, names] of Object.entries(await add(card, files))) leftOut[kind].push(...names.map((one) => `${name}/${one}`));
  }
  tellLeftOut(leftOut, shown.length);
}

// Without what is hidden, or nobody's. The one folder that was chosen may be called as it likes.
function withoutNobodys(found) {
  const isOne = new Set(found.map(({path}) => path.split("/")[0])).size < 2;
  const isNobodys = (name) => name.startsWith(".") || NOBODYS_FOLDERS.includes(name);
  return found.filter(({path}) => !path.split("/").slice(isOne ? 1 : 0).some(isNobodys));
}

// {folders, beside}: {path, files: [{path, file}, ...]} by the name of the class, its files by their paths below it, and the paths of
// the files that are of none. Throws UserError where that is not clear.
function classFolders(found) {
  const chosens = new Set(), withFolders = new Set();  // those with folders in them
  const within = new Map();  // of each of those folders, what folders are in it
  for (const {path} of found) {
    const [chosen, folder, inner, ...file] = path.split("/");
    chosens.add(chosen);
    if (inner !== undefined) withFolders.add(chosen);
    if (!file.length) continue;
    const parent = `${chosen}/${folder}`;
    within.set(parent, (within.get(parent) ?? new Set()).add(oneForm(inner)));
  }
  if (withFolders.size < chosens.size) withFolders.clear();  // some have pictures alone: classes, and so are those beside them
  const split = withFolders.size && firstSplit(within);
  if (split) throw new UserError(`${split} holds folders, as a split does, so nothing was added; choose ${split} itself, or drop its pictures on the class that they show.`);
  const folders = new Map(), beside = [];
  for (const one of found) {
    const parts = one.path.split("/");
    if (withFolders.has(parts[0]) && parts.length < 3) {
      beside.push(one.path);
      continue;
    }
    const path = parts.slice(0, withFolders.has(parts[0]) ? 2 : 1).join("/");
    const name = oneForm(path.split("/").at(-1));
    if (!folders.has(name)) folders.set(name, {path, files: []});
    const folder = folders.get(name);
    if (folder.path !== path) throw new UserError(`${folder.path} and ${path} would be one class, so nothing was added; choose the folder of one of them, or give one another name.`);
    folder.files.push({path: one.path.slice(path.length + 1), file: one.file});
  }
  return {folders, beside};
}

// The first of the folders that are called as splits are, or as the parts of one data set, `fold_1` and `fold_2`, that hold the same
// folders; undefined where all are classes. `within` is the Set of the folders in each.
function firstSplit(within) {
  const nameIn = (path) => path.split("/")[1];
  const paths = [...within.keys()], bare = paths.map((path) => nameIn(path).replace(new RegExp(`${SPLIT}|\\d+`, "gi"), ""));
  const common = [...within.values()].reduce((some, others) => new Set([...some].filter((one) => others.has(one))), new Set(within.get(paths[0])));
  const areParts = paths.length > 1 && new Set(bare).size === 1 && common.size > 1;
  return paths.find((path) => areParts || new RegExp(`^(${SPLIT})$`, "i").test(nameIn(path)));
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
  const from = cards.map((card) => ({card, pictures: card.pictures.slice()}));  // they may change meanwhile
  const pictures = from.flatMap(({pictures}, label) => pictures.map((picture) => ({picture, label})));
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
  const tested = leftOut ? ` When left out in turn, ${right} of ${leftOut} were answered right (decay ${decay}).` : " With two pictures of a class, it could be tested.";
  learnt = {text: `Learnt ${names.length} classes from ${pictures.length} pictures in ${seconds} s.${tested}`, pictures: from.map(({pictures}) => pictures.length), from};
  return learnt.text;
}

// What there is to say of what `network` has learnt, or null if the classes of the page are no longer those. Where their names alone
// are others, it takes them over.
export function stillLearnt(network) {
  if (learnt.from) {
    const cards = [...document.querySelectorAll(".class")], names = cards.map(nameOf);
    const isSame = ({card, pictures}, number) => card === cards[number]
      && pictures.length === card.pictures.length && pictures.every((one, place) => one === card.pictures[place]);
    if (cards.length !== learnt.from.length || !learnt.from.every(isSame)) return null;
    if (names.some((name, number) => !name || names.indexOf(name) !== number)) return null;
    network.learn(names, network.head);
  }
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
  if (count > MOST_PICTURES) throw new UserError(`These are ${count} pictures, but this page learns from ${MOST_PICTURES} at most; alexnet finetune takes any number.`);
}

// What `network` has learnt, as the text of a file.
export function saved(network) {
  return JSON.stringify({
    format: FORMAT,
    network: stated(network),
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
  if (identity(stored.network ?? {}) !== identity(stated(network)) || head.units !== network.units) {
    throw new UserError(`${file.name} was learnt on a network other than the open one; choose that .tflite file first.`);
  }
  network.learn(stored.classes, head);
  learnt = {text: stored.text, pictures: stored.pictures, from: null};
  return learnt.text;
}

// What features are of: the same weights and pixels; in another precision they are nearly the same.
function stated({manifest, units}) {
  return {weights_sha256: manifest.weights_sha256, features: manifest.features, units, preprocessing: manifest.preprocessing};
}

// What `stated` gives as a text to compare; what a later version may add to it does not count.
function identity({weights_sha256, features, units, preprocessing}) {
  return JSON.stringify([weights_sha256, features, units, PREPROCESSING.map((name) => preprocessing?.[name])]);
}

function toBase64(numbers) {
  let text = "";
  for (const byte of new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text) {
  return new Float32Array(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}

// Shows what the camera sees, or turns it off again. Throws UserError if there is none; `ended` is called when it goes away by itself.
export async function toggleCamera(ended) {
  if (video) return turnCameraOff();
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new UserError("Browsers give the camera only to pages over https, or from this machine itself; choose picture files instead.");
  }
  try {
    video = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    element("view").srcObject = video;
    await element("view").play();
  } catch (error) {
    turnCameraOff();
    throw new UserError(`The camera cannot be used (${error.message}); allow it, or choose picture files.`);
  }
  for (const track of video.getTracks()) {
    track.addEventListener("ended", () => {
      turnCameraOff();
      ended();
    });
  }
  showCamera();
}

export function turnCameraOff() {
  for (const track of video?.getTracks() ?? []) track.stop();
  video = null;
  element("view").srcObject = null;
  showCamera();
}

function showCamera() {
  document.body.classList.toggle("with-camera", Boolean(video));
  element("camera").textContent = video ? "Turn the camera off" : "Use the camera";
}

// What the camera sees now, as a picture file. Throws UserError if it sees nothing.
export async function snapshot() {
  if (!video?.getTracks().every(({readyState}) => readyState === "live")) {
    throw new UserError("The camera is off, and no picture was taken; turn it on again.");
  }
  const view = element("view"), canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  return new File([await canvas.convertToBlob()], `camera ${++snapshots}.png`, {type: "image/png"});
}
