// Asks a server, alexnet serve or TensorFlow Serving, over REST. Needs Node 18 or newer, and no
// package.
//
//   node classify.mjs http://127.0.0.1:8501 flower.jpg
import { readFile } from "node:fs/promises";

const [server, picture] = process.argv.slice(2);
const body = JSON.stringify({ instances: [{ b64: (await readFile(picture)).toString("base64") }] });
const answer = await fetch(`${server}/v1/models/alexnet:predict`, { method: "POST", body });
const { predictions, error } = await answer.json();
if (error) {
  console.error(`${picture} is refused: ${error}`);
  process.exit(1);
}
const [{ names, scores }] = predictions;
names.forEach((name, place) => console.log(`${scores[place].toFixed(4)}  ${name}`));
