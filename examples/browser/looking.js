// What in a picture an answer rests on: the occlusion map of Zeiler and Fergus, as alexnet_tf/figures/saliency.py computes it.

import {roundHalfEven} from "./preprocessing.js";

const SQUARES = 5, STEPS = 3;  // of a square in the image, and of a square from one to the next
const LITTLE = 0.1;  // of probability: smaller differences are not drawn as strongly as larger ones
const LOST = [178, 24, 43], GAINED = [33, 102, 172];  // red and blue
const STRONGEST = 190;  // of 255: the picture shows through

// How much of the probability of class `label` hangs on each of `pixels`, those of `centralCrop`: Float32Array [size * size], in
// -1..1. A square of the network's mean colour is laid on the image at places a third of its side apart; a pixel's value is the
// probability without a square less the mean of those with each that covers it. `tell` hears the share that is done; null as soon as
// it answers false.
export async function occlusion(network, pixels, label, tell) {
  const {image_size: size, channels, mean} = network.pixels;
  const side = Math.max(1, Math.floor(size / SQUARES)), stride = Math.max(1, Math.floor(side / STEPS));
  const fill = mean.map((level) => mean.some(Boolean) ? roundHalfEven(level) : 128);
  const starts = [];
  for (let start = 0; start < size - side; start += stride) starts.push(start);
  starts.push(size - side);
  const whole = (await network.probabilities(pixels))[label];
  const lost = new Float64Array(size * size), covered = new Float64Array(size * size);
  for (const [row, top] of starts.entries()) {
    for (const [column, left] of starts.entries()) {
      const hidden = Uint8Array.from(pixels);
      const places = [];
      for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) places.push(y * size + x);
      for (const place of places) hidden.set(fill, place * channels);
      const difference = whole - (await network.probabilities(hidden))[label];
      for (const place of places) {
        lost[place] += difference;
        covered[place]++;
      }
      await new Promise((resolve) => setTimeout(resolve));  // the browser paints, and hears what is clicked
      if (!tell((row * starts.length + column + 1) / starts.length ** 2)) return null;
    }
  }
  return Float32Array.from(lost, (value, place) => value / covered[place]);
}

// A map of `occlusion` as an ImageData: red where the class hangs on the place, blue where it gains without it.
export function drawn(map, size) {
  const most = map.reduce((most, value) => Math.max(most, Math.abs(value)), LITTLE);
  const image = new ImageData(size, size);
  map.forEach((value, place) => {
    image.data.set([...(value > 0 ? LOST : GAINED), STRONGEST * Math.abs(value) / most], 4 * place);
  });
  return image;
}
