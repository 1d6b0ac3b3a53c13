// How EXIF says that a picture has to be turned, read where and as alexnet_tf/edge/pictures.py reads it. Browsers read it in some
// formats and some places, each in its own, and cannot be kept from it: it is taken out of what they decode.

const ORIENTATION = 0x112, SHORT = 3, LONG = 4;  // the entry, and its types
const MARK = "Exif\0\0";

// {orientation, parts}: 1..8, 1 where the file states none or is damaged, and what a Blob of the same picture without EXIF is made of.
// `bytes`, a Uint8Array of the whole file, is written over.
export function takeOrientation(bytes) {
  const take = startsWith(bytes, 0, "\xff\xd8\xff") ? takeFromJpeg
    : startsWith(bytes, 0, "\x89PNG\r\n\x1a\n") ? takeFromPng
    : startsWith(bytes, 0, "RIFF") && startsWith(bytes, 8, "WEBP") ? takeFromWebp
    : () => ({parts: [bytes]});
  const {exif, parts} = take(bytes, viewOf(bytes));
  return {orientation: exif ? orientationOf(exif) : 1, parts};
}

// Of several segments before the scan the first counts.
function takeFromJpeg(bytes, view) {
  let exif;
  for (let at = 2; at + 10 <= bytes.length;) {
    const marker = view.getUint16(at);
    if (marker < 0xff00 || marker === 0xffda) break;
    const end = at + 2 + view.getUint16(at + 2);
    if (marker === 0xffe1 && startsWith(bytes, at + 4, "Exif")) {
      if (startsWith(bytes, at + 4, MARK)) exif ??= bytes.slice(at + 4, end);
      bytes.fill(0, at + 4, at + 8);  // nobody's segment
    }
    at = marker === 0xffff ? at + 1 : end;  // the first byte of 0xffff fills up
  }
  return {exif, parts: [bytes]};
}

// Of several chunks, which may stand behind the pixels, the last counts. Each has a checksum, so that it goes as a whole.
function takeFromPng(bytes, view) {
  const parts = [];
  let exif, kept = 0;
  for (let at = 8; at + 8 <= bytes.length && !startsWith(bytes, at + 4, "IEND");) {
    const end = at + 12 + view.getUint32(at);
    if (startsWith(bytes, at + 4, "eXIf")) {
      exif = bytes.subarray(at + 8, end - 4);
      parts.push(bytes.subarray(kept, at));
      kept = end;
    }
    at = end;
  }
  return {exif, parts: [...parts, bytes.subarray(kept)]};
}

// Of several chunks the first counts.
function takeFromWebp(bytes, view) {
  let exif;
  for (let at = 12; at + 8 <= bytes.length;) {
    const length = view.getUint32(at + 4, true);
    if (startsWith(bytes, at, "EXIF")) {
      exif ??= bytes.subarray(at + 8, at + 8 + length);
      bytes.fill(0x78, at, at + 4);  // nobody's chunk
    }
    at += 8 + length + length % 2;
  }
  if (startsWith(bytes, 12, "VP8X")) bytes[20] &= ~8;  // the flag that there is EXIF
  return {exif, parts: [bytes]};
}

// What EXIF states, which is laid out as a TIFF file.
function orientationOf(exif) {
  for (let times = 0; times < 2 && startsWith(exif, 0, MARK); times++) exif = exif.subarray(MARK.length);
  const littleEndian = startsWith(exif, 0, "II*\0");
  if (exif.length < 8 || !littleEndian && !startsWith(exif, 0, "MM\0*")) return 1;
  const view = viewOf(exif), first = view.getUint32(4, littleEndian);
  const count = first + 2 <= exif.length ? view.getUint16(first, littleEndian) : 0;
  let stated = 1;
  for (let at = first + 2; at < Math.min(first + 2 + 12 * count, exif.length - 11); at += 12) {
    if (view.getUint16(at, littleEndian) !== ORIENTATION || view.getUint32(at + 4, littleEndian) !== 1) continue;
    const kind = view.getUint16(at + 2, littleEndian);
    const value = kind === SHORT ? view.getUint16(at + 8, littleEndian) : kind === LONG ? view.getUint32(at + 8, littleEndian) : 0;
    if (value > 0 && value < 9) stated = value;
  }
  return stated;
}

// What a canvas has to do, as the six numbers of `setTransform`, so that a picture of `width` x `height` is drawn upright; from 5 on
// its sides change places.
export function upright(orientation, width, height) {
  return {
    2: [-1, 0, 0, 1, width, 0],
    3: [-1, 0, 0, -1, width, height],
    4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, height, 0],
    7: [0, -1, -1, 0, height, width],
    8: [0, -1, 1, 0, 0, width],
  }[orientation] ?? [1, 0, 0, 1, 0, 0];
}

function startsWith(bytes, at, text) {
  return at + text.length <= bytes.length && [...text].every((character, place) => bytes[at + place] === character.charCodeAt(0));
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
