// Pixels in, network input out, as alexnet_tf/preprocessing.py does it for evaluation: the same window, the same filter.
// Less the mean is not done here: that is part of the network in the file.

import {UserError} from "./errors.js";
import {takeOrientation, upright} from "./orientation.js";

// What shows through a picture: white, but where a GIF has no transparent colour, the first of its colours, which is then what its
// screen has around a smaller first frame.
function groundOf(bytes) {
  const colours = (flags) => flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0;
  if (String.fromCharCode(...bytes.subarray(0, 4)) !== "GIF8") return "white";
  const common = colours(bytes[10]);
  let at = 13 + common;
  while (bytes[at] === 0x21) {  // an extension
    if (bytes[at + 1] === 0xf9 && bytes[at + 3] & 1) return "white";
    for (at += 2; bytes[at]; at += bytes[at] + 1);
    at++;
  }
  if (bytes[at] !== 0x2c) return "white";
  const palette = colours(bytes[at + 9]) ? at + 10 : common ? 13 : bytes.length;
  const [red = 0, green = 0, blue = 0] = bytes.subarray(palette);
  return `rgb(${red} ${green} ${blue})`;
}

// The levels of a picture file as an ImageData, turned as EXIF says, the first frame alone, alpha on white. Levels are as they are in
// the file: no colour profile is applied, as none is where the network was trained. Throws UserError for a file that is no picture,
// and for one that is larger than this browser's canvas.
export async function decode(file) {
  let bytes, orientation, bitmap;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
    const taken = takeOrientation(bytes);
    orientation = taken.orientation;
    bitmap = await createImageBitmap(new Blob(taken.parts, {type: file.type}), {colorSpaceConversion: "none"});
  } catch (error) {
    console.error(error);
    throw new UserError(`${file.name} is not a picture that this browser can open; choose a JPEG, PNG or WebP file.`);
  }
  const sides = [bitmap.width, bitmap.height];
  const [width, height] = orientation > 4 ? sides.reverse() : sides;
  // A canvas that is read often is kept off the GPU, which would round differently.
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.fillStyle = groundOf(bytes);
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;  // pixels are moved, not mixed
  context.setTransform(...upright(orientation, bitmap.width, bitmap.height));
  context.drawImage(bitmap, 0, 0);
  const levels = context.getImageData(0, 0, width, height);
  // Some browsers leave a canvas empty that is too large for them, and say nothing.
  if (levels.data[3] === 0) throw new UserError(`${file.name} has ${width} x ${height} pixels, more than this browser can draw; make it smaller.`);
  return levels;
}

// The size that scales the shorter side to `resize`, and where in the picture of that size the central window lies.
function centralWindow(width, height, {image_size: size, resize}) {
  const axes = [width, height].map((length) => {
    const scaled = roundHalfEven(length * resize / Math.min(width, height));
    const corner = Math.floor((scaled - resize) / 2) + Math.floor((resize - size) / 2);
    return {scale: scaled / length, corner, taps: triangleTaps(length, scaled / length, corner, size)};
  });
  return {x: axes[0], y: axes[1]};
}

// For each of `size` output positions, from which input position on and with what weights inputs are summed: a triangle as
// wide as one output pixel when the picture shrinks, as wide as one input pixel when it grows (tf.image.resize, antialias).
function triangleTaps(length, scale, corner, size) {
  const radius = Math.max(1 / scale, 1);
  return Array.from({length: size}, (_, position) => {
    const centre = (position + corner + 0.5) / scale;
    const first = Math.max(Math.ceil(centre - radius - 0.5), 0);
    const last = Math.min(Math.floor(centre + radius - 0.5), length - 1);
    const weight = (input) => Math.max(0, 1 - Math.abs(input + 0.5 - centre) / radius);
    const weights = Array.from({length: last - first + 1}, (_, tap) => weight(first + tap));
    const sum = weights.reduce((total, one) => total + one, 0);
    return {first, weights: Float32Array.from(weights, (one) => one / sum)};
  });
}

// The central window of an ImageData: uint8 [image_size, image_size, channels], alpha left out.
export function centralCrop({data, width, height}, pixels) {
  const size = pixels.image_size;
  const {x, y} = centralWindow(width, height, pixels);
  const top = y.taps[0].first;
  const bottom = y.taps[size - 1].first + y.taps[size - 1].weights.length;
  const rows = new Float32Array((bottom - top) * size * 3);  // scaled in x alone
  for (let row = top, out = 0; row < bottom; row++) {
    for (const {first, weights} of x.taps) {
      let red = 0, green = 0, blue = 0;
      for (let tap = 0, at = (row * width + first) * 4; tap < weights.length; tap++, at += 4) {
        red += weights[tap] * data[at];
        green += weights[tap] * data[at + 1];
        blue += weights[tap] * data[at + 2];
      }
      rows[out++] = red;
      rows[out++] = green;
      rows[out++] = blue;
    }
  }
  const stride = size * 3;
  const window = new Float32Array(size * stride);
  y.taps.forEach(({first, weights}, row) => {
    for (let tap = 0; tap < weights.length; tap++) {
      const from = (first - top + tap) * stride;
      for (let at = 0; at < stride; at++) window[row * stride + at] += weights[tap] * rows[from + at];
    }
  });
  const levels = Uint8Array.from(window, roundHalfEven);
  return pixels.channels === 1 ? Uint8Array.from(grey(levels), roundHalfEven) : levels;
}

// ITU-R BT.601 luma, with the weights of tf.image.rgb_to_grayscale.
function grey(rgb) {
  const luma = (at) => 0.2989 * rgb[at] + 0.587 * rgb[at + 1] + 0.114 * rgb[at + 2];
  return Float32Array.from({length: rgb.length / 3}, (_, pixel) => luma(3 * pixel));
}

// The square of the picture that the network looks at, in pixels of the picture.
export function seenSquare(width, height, pixels) {
  const {x, y} = centralWindow(width, height, pixels);
  const size = pixels.image_size;
  return {left: x.corner / x.scale, top: y.corner / y.scale, width: size / x.scale, height: size / y.scale};
}

// As NumPy and TensorFlow round: 0.5 to 0, 1.5 to 2.
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
