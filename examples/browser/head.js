// A projection from features to classes, fitted on the device by the rule of `fit` in alexnet_tf/training/head.py: a logistic
// regression on standardised features, whose decay and temperature are chosen by pictures that are left out in turn.

const DECAYS = [1, 0.1, 0.01, 1e-3, 1e-4];  // of the sum of all losses, on features of length 1
const USUAL_DECAY = 0.01;  // where no class has two pictures to choose by
const FOLDS = 5;
const MOST_PASSES = 200;  // over the pictures
const FLAT = 1e-5;  // a gradient of this share of the first is flat
const MEMORY = 8;  // steps from which the curvature is known
const MOST_POWER = Math.log(50);  // of a temperature, or of one over it

export class Head {
  // `kernel` is a Float32Array [units * classes], a row a unit; `bias` one of [classes].
  constructor(kernel, bias) {
    Object.assign(this, {kernel, bias, units: kernel.length / bias.length});
  }

  // A probability a class for the features of one picture.
  probabilities(features) {
    const logits = Float64Array.from(this.bias);
    const classes = logits.length;
    for (let unit = 0, at = 0; unit < this.units; unit++) {
      for (let one = 0; one < classes; one++) logits[one] += features[unit] * this.kernel[at++];
    }
    softmax(logits);
    return Float32Array.from(logits);
  }
}

// {head, decay, temperature, right, leftOut}: a Head for the features of some pictures, Float32Array [units] each, of which `labels`
// says the class, 0 .. classes - 1. `right` is how many of the `leftOut` pictures that chose were right; 0 and 0 where none could.
export function fit(features, labels, classes) {
  const units = features[0].length;
  const {shift, scale} = standardisation(features);
  const standardised = features.map((row) => Float64Array.from(row, (value, unit) => (value - shift[unit]) * scale));
  const {rows, toKernel} = shorten(standardised);
  const choice = choose(rows, labels, classes, features);
  const weights = minimise(regression(rows, labels, classes, choice.decay), zeros((rows[0].length + 1) * classes));
  const kernel = toKernel(weights.subarray(0, -classes), classes);
  const bias = weights.slice(-classes);
  // What was fitted is folded back, and cooled: the head reads features as they are.
  for (let unit = 0, at = 0; unit < units; unit++) {
    for (let one = 0; one < classes; one++, at++) {
      kernel[at] *= scale / choice.temperature;
      bias[one] -= shift[unit] * kernel[at] * choice.temperature;
    }
  }
  const head = new Head(Float32Array.from(kernel), Float32Array.from(bias, (value) => value / choice.temperature));
  return {head, ...choice};
}

// The mean of each unit, and one over the length of what is left of a picture's.
function standardisation(features) {
  const shift = zeros(features[0].length);
  for (const row of features) for (let unit = 0; unit < row.length; unit++) shift[unit] += row[unit] / features.length;
  let square = 0;
  for (const row of features) for (let unit = 0; unit < row.length; unit++) square += (row[unit] - shift[unit]) ** 2;
  return {shift, scale: square > 0 ? 1 / Math.sqrt(square / features.length) : 1};
}

// {rows, toKernel}: the rows turned until they need no more coordinates than there are of them, by which a regression with a decay
// stays as it is, and what makes a kernel for the rows as they were of one for these.
function shorten(rows) {
  const count = rows.length, units = rows[0].length;
  if (count >= units) return {rows, toKernel: (weights) => Float64Array.from(weights)};
  const root = rows.map((row, at) => {
    const products = zeros(count);
    for (let other = 0; other <= at; other++) products[other] = dot(row, rows[other]);
    return products;
  });
  const trace = root.reduce((sum, row, at) => sum + row[at], 0);
  root.forEach((row, at) => row[at] += 1e-9 * (trace / count || 1));  // rows may be alike, or hang together
  for (let at = 0; at < count; at++) {  // Cholesky, in place: a row of it depends on those before it
    for (let column = 0; column <= at; column++) {
      let left = root[at][column];
      for (let one = 0; one < column; one++) left -= root[at][one] * root[column][one];
      root[at][column] = at === column ? Math.sqrt(left) : left / root[column][column];
    }
  }
  const toKernel = (weights, classes) => {
    const shares = Float64Array.from(weights);  // of each row in the kernel: root transposed, solved from below
    for (let row = count - 1; row >= 0; row--) {
      for (let one = 0; one < classes; one++) {
        let left = shares[row * classes + one];
        for (let below = row + 1; below < count; below++) left -= root[below][row] * shares[below * classes + one];
        shares[row * classes + one] = left / root[row][row];
      }
    }
    const kernel = zeros(units * classes);
    rows.forEach((row, number) => {
      for (let unit = 0, at = 0; unit < units; unit++) {
        for (let one = 0; one < classes; one++) kernel[at++] += row[unit] * shares[number * classes + one];
      }
    });
    return kernel;
  };
  return {rows: root, toKernel};
}

// The decay and the temperature that are best for pictures that are left out in turn, a fifth at a time. The loss at its best
// temperature decides; from strong to weak, as long as it gets better.
function choose(rows, labels, classes, features) {
  // Dealt out class by class; the only one of a class is in none. Copies of a picture, which have the same features, stay
  // together: one of them would tell what the others are.
  const order = [...labels.keys()].sort((a, b) => labels[a] - labels[b]);
  const groups = new Map(), ofClass = Array.from({length: classes}, () => new Set()), group = new Array(labels.length);
  for (const number of order) {
    const key = features[number].join();
    if (!groups.has(key)) groups.set(key, groups.size);
    group[number] = groups.get(key);
    ofClass[labels[number]].add(group[number]);
  }
  const folds = labels.map((label, number) => ofClass[label].size < 2 ? -1 : group[number] % FOLDS);
  const out = [...labels.keys()].filter((number) => folds[number] >= 0);
  let best = {decay: USUAL_DECAY, temperature: 1, loss: Infinity, right: 0, leftOut: 0};
  const weights = {};
  for (const decay of out.length ? DECAYS : []) {
    const said = new Array(labels.length);
    for (const fold of new Set(out.map((number) => folds[number]))) {
      const kept = [...labels.keys()].filter((number) => folds[number] !== fold);
      const loss = regression(kept.map((number) => rows[number]), kept.map((number) => labels[number]), classes, decay);
      weights[fold] = minimise(loss, weights[fold] ?? zeros((rows[0].length + 1) * classes));
      for (const number of out) if (folds[number] === fold) said[number] = logitsOf(rows[number], weights[fold], classes);
    }
    const {temperature, loss} = temperatureOf(out.map((number) => said[number]), out.map((number) => labels[number]));
    if (loss >= best.loss) break;
    const right = out.filter((number) => said[number].indexOf(Math.max(...said[number])) === labels[number]).length;
    best = {decay, temperature, loss, right, leftOut: out.length};
  }
  return best;
}

// {temperature, loss}: what logits are best divided by, and their mean loss then. A prior, of a standard deviation of a factor of
// two around 1, counts as much as one picture or two: a handful, all of them right, is no reason to be sure.
function temperatureOf(logits, labels) {
  const lossAt = (power) => {
    let sum = 0;
    logits.forEach((row, number) => {
      const scaled = row.map((value) => value * Math.exp(power));
      const most = Math.max(...scaled);
      sum += most + Math.log(scaled.reduce((total, value) => total + Math.exp(value - most), 0)) - scaled[labels[number]];
    });
    return sum / labels.length;
  };
  const cost = (power) => labels.length * lossAt(power) + (power / Math.LN2) ** 2 / 2;
  const golden = (Math.sqrt(5) - 1) / 2;
  let low = -MOST_POWER, high = MOST_POWER;
  while (high - low > 1e-4) {
    const left = high - golden * (high - low), right = low + golden * (high - low);
    if (cost(left) <= cost(right)) high = right;
    else low = left;
  }
  const power = (low + high) / 2;
  return {temperature: Math.exp(-power), loss: lossAt(power)};
}

function logitsOf(row, weights, classes) {
  const logits = weights.slice(-classes);
  for (let unit = 0, at = 0; unit < row.length; unit++) {
    for (let one = 0; one < classes; one++) logits[one] += row[unit] * weights[at++];
  }
  return logits;
}

// The function of `minimise`: weights, kernel and then bias, to the loss of a logistic regression and its gradient.
function regression(rows, labels, classes, decay) {
  return (weights) => {
    const gradient = weights.map((weight) => decay * weight);
    gradient.fill(0, -classes);
    let value = decay / 2 * dot(weights.subarray(0, -classes), weights.subarray(0, -classes));
    rows.forEach((row, number) => {
      const error = logitsOf(row, weights, classes);
      softmax(error);
      value -= Math.log(Math.max(error[labels[number]], Number.MIN_VALUE));
      error[labels[number]] -= 1;
      for (let unit = 0, at = 0; unit < row.length; unit++) {
        for (let one = 0; one < classes; one++) gradient[at++] += row[unit] * error[one];
      }
      const ofBias = gradient.length - classes;
      for (let one = 0; one < classes; one++) gradient[ofBias + one] += error[one];
    });
    return {value: value / rows.length, gradient: gradient.map((one) => one / rows.length)};
  };
}

// The minimum of a smooth convex function, which gives value and gradient. L-BFGS: Nocedal and Wright, Numerical Optimization,
// 2nd edition, algorithms 7.4 and 7.5, with halved steps until the decrease suffices (3.4).
function minimise(lossAndGradient, start) {
  let point = start, {value, gradient} = lossAndGradient(start), steps = [], asked = 1;
  const first = norm(gradient);
  while (asked < MOST_PASSES && norm(gradient) > FLAT * first) {
    let direction = gradient.map((one) => -one);
    const factors = [];
    for (const {step, change, curvature} of steps.toReversed()) {
      factors.unshift(dot(step, direction) / curvature);
      direction = sum(direction, change, -factors[0]);
    }
    if (steps.length) {
      const {change, curvature} = steps.at(-1);
      direction = direction.map((one) => one * curvature / dot(change, change));
    }
    steps.forEach(({step, change, curvature}, number) => {
      direction = sum(direction, step, factors[number] - dot(change, direction) / curvature);
    });
    const slope = dot(gradient, direction);
    let length = 1, there, found = null;
    while (asked < MOST_PASSES && !found) {
      there = sum(point, direction, length);
      const at = lossAndGradient(there);
      asked++;
      if (at.value <= value + 1e-4 * length * slope) found = at;
      else length /= 2;
    }
    if (!found) break;
    const step = sum(there, point, -1), change = sum(found.gradient, gradient, -1);
    const curvature = dot(step, change);
    if (curvature > 0) steps = [...steps.slice(1 - MEMORY), {step, change, curvature}];
    point = there;
    ({value, gradient} = found);
  }
  return point;
}

function softmax(logits) {
  const most = Math.max(...logits);
  let total = 0;
  for (let one = 0; one < logits.length; one++) total += logits[one] = Math.exp(logits[one] - most);
  for (let one = 0; one < logits.length; one++) logits[one] /= total;
}

function dot(one, other) {
  let total = 0;
  for (let at = 0; at < one.length; at++) total += one[at] * other[at];
  return total;
}

// one + factor * other
function sum(one, other, factor) {
  return one.map((value, at) => value + factor * other[at]);
}

function norm(vector) {
  return Math.sqrt(dot(vector, vector));
}

function zeros(length) {
  return new Float64Array(length);
}
