"""Images/s of a training step on one GPU: our Keras model on the JAX backend, and the same network
in PyTorch, compiled. For a bare machine that has JAX and PyTorch, and neither Keras nor a network.

Beforehand, where there is a network, for the Python of that machine (here 3.12):

    python -m pip download --dest=wheels --no-deps --only-binary=:all: --python-version=3.12 \
        --platform=manylinux_2_28_x86_64 --platform=manylinux2014_x86_64 --platform=any \
        keras==3.15.1 absl-py namex h5py optree packaging rich markdown-it-py mdurl pygments

Then there, from a checkout:

    python tools/benchmarks/gpu.py --wheels=wheels --json=gpu.json

It takes five minutes at most: the most telling cases come first, and those for which no time was
left are named. With --batch_sizes=2 --seconds=60 it can be tried on a CPU.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLASSES, SIDE = 1000, 227
PRECISIONS = ("bfloat16", "tf32", "float32")
# Dense peaks of NVIDIA's data sheets, TFLOP/s, by what the card calls itself; the first that fits.
PEAKS = (
    ("H100 PCIe", {"bfloat16": 756, "tf32": 378, "float32": 51}),
    ("H100", {"bfloat16": 989, "tf32": 494, "float32": 67}),
    ("H200", {"bfloat16": 989, "tf32": 494, "float32": 67}),
    ("A100", {"bfloat16": 312, "tf32": 156, "float32": 19.5}),
)


def cases(batch_sizes, normalised):
    """[(precision, batch size, with LRN), ...], the most telling first."""
    middle = sorted(batch_sizes)[len(batch_sizes) // 2]
    first = [(precision, middle, True) for precision in PRECISIONS]
    without = [(precision, middle, False) for precision in PRECISIONS[:2]]
    rest = [(precision, batch_size, True) for precision in PRECISIONS for batch_size in batch_sizes]
    return list(dict.fromkeys(first + (without if normalised else []) + rest))


def timed(step, batch_size, seconds=1.0):
    """Images/s of `step(count)`, which makes so many steps and waits for them: the median of five
    rounds, each of about a fifth of `seconds`.
    """
    step(1)  # compiles
    step(2)
    begin = time.perf_counter()
    step(2)
    count = max(1, int(seconds / 5 / ((time.perf_counter() - begin) / 2)))
    rates = []
    for _ in range(5):
        begin = time.perf_counter()
        step(count)
        rates.append(count * batch_size / (time.perf_counter() - begin))
    return statistics.median(rates)


def measure_all(make_step, product, batch_sizes, normalised, until):
    """Measures by `make_step(precision, batch_size, lrn)` and `product(precision)`, FLOP/s; prints
    a line of JSON for each.
    """
    products = {}
    for precision, batch_size, lrn in cases(batch_sizes, normalised):
        row = {"precision": precision, "batch_size": batch_size, "lrn": lrn}
        if time.time() > until:
            row["left_out"] = "no time"
        else:
            try:
                if precision not in products:
                    products[precision] = product(precision)
                begin = time.perf_counter()
                row["images_per_s"] = timed(make_step(precision, batch_size, lrn), batch_size)
                row["took_s"] = time.perf_counter() - begin
                row["product_flop_per_s"] = products[precision]
            except Exception as error:  # out of memory, most likely: the others are measured
                row["left_out"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        print(json.dumps(row), flush=True)


def product_rate(multiply, side):
    """FLOP/s of `multiply(count)`, so many products of side x side matrices."""
    return 2 * side**3 * timed(multiply, 1, 0.5)


def jax_part(batch_sizes, until):
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import jax.numpy as jnp
    import keras
    from jax import random

    from alexnet_tf.network.layers import LocalResponseNormalization
    from alexnet_tf.network.model import build_model, training_work

    assert "tensorflow" not in sys.modules
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"

    def prepare(precision):
        """Sets the arithmetic; the names are those of jax_default_matmul_precision."""
        jax.config.update(
            "jax_default_matmul_precision", "tensorfloat32" if precision == "tf32" else "float32"
        )
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")

    def make_step(precision, batch_size, lrn):
        prepare(precision)
        keras.utils.set_random_seed(0)
        model = build_model("paper", CLASSES)
        for layer in model.layers:
            if isinstance(layer, LocalResponseNormalization) and not lrn:
                layer.call = lambda inputs, training=False: keras.ops.relu(inputs)
        decays = [variable.path.endswith("kernel") for variable in model.trainable_variables]

        def loss_of(weights, state, images, labels):
            logits, state = model.stateless_call(weights, state, images, training=True)
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
            return -chosen.mean(), state

        def update(weights, state, velocities, images, labels):
            (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                weights, state, images, labels
            )
            velocities = [
                0.9 * v - 0.001 * (0.0005 * w * decay + g)
                for v, w, g, decay in zip(velocities, weights, gradients, decays)
            ]
            return [w + v for w, v in zip(weights, velocities)], state, velocities, loss

        update = jax.jit(update, donate_argnums=(0, 1, 2))
        held = [
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
            [jnp.zeros_like(variable.value) for variable in model.trainable_variables],
        ]
        images = 50 * random.normal(random.key(0), (batch_size, SIDE, SIDE, 3))
        labels = random.randint(random.key(1), (batch_size,), 0, CLASSES)

        def step(count):
            for _ in range(count):
                *held[:], loss = update(*held, images, labels)
            assert jnp.isfinite(loss), "the loss is not finite"  # waits for it

        return step

    def product(precision):
        prepare(precision)
        side = 8192 if on_gpu else 1024
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        a = random.normal(random.key(2), (side, side), dtype)
        multiply = jax.jit(lambda x: (x @ a) * (1 / side))

        def several(count):
            x = a
            for _ in range(count):
                x = multiply(x)
            x.block_until_ready()

        return product_rate(several, side)

    work = 2 * training_work(build_model("paper", CLASSES))
    versions = {"jax": jax.__version__, "keras": keras.__version__}
    print(json.dumps({"device": device.device_kind, "flop_per_image": work, **versions}))
    measure_all(make_step, product, batch_sizes, True, until)


def torch_part(batch_sizes, until):
    sys.path.insert(0, str(ROOT / "alexnet_tf/commands/benchmarks/elsewhere"))
    import torch
    from torch.nn import functional
    from training_step import Paper

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def prepare(precision):
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "float32"
        torch.backends.cudnn.benchmark = True

    def make_step(precision, batch_size, lrn):
        del lrn  # always with
        prepare(precision)
        torch.manual_seed(0)
        torch.compiler.reset()
        model = Paper()
        model.fc8 = torch.nn.Linear(4096, CLASSES)
        model = model.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), 0.001, 0.9, weight_decay=5e-4)
        compiled = torch.compile(model, dynamic=False)
        images = torch.randn(batch_size, 3, SIDE, SIDE, device=device)
        images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(CLASSES, (batch_size,), device=device)

        def step(count):
            for _ in range(count):
                optimizer.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
                    loss = functional.cross_entropy(compiled(images), labels)
                loss.backward()
                optimizer.step()
            wait()

        return step

    def product(precision):
        prepare(precision)
        side = 8192 if device.type == "cuda" else 1024
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a = torch.randn(side, side, device=device, dtype=dtype)

        def several(count):
            for _ in range(count):
                a @ a
            wait()

        return product_rate(several, side)

    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(json.dumps({"device": name, "torch": torch.__version__}))
    measure_all(make_step, product, batch_sizes, False, until)


def peak(device, precision):
    """FLOP/s of the data sheet, or None for a card that is not in the table."""
    for name, peaks in PEAKS:
        if all(word in device for word in name.split()):
            return 1e12 * peaks[precision]
    return None


def table(part, head, rows, flop_per_image):
    print(f"{part} on {head['device']}")
    by_case = {(r["precision"], r["batch_size"], r["lrn"]): r for r in rows}
    for row in rows:
        what = f"  {row['precision']:9} batch {row['batch_size']:5}"
        what += "" if row["lrn"] else ", without LRN"
        if "left_out" in row:
            print(f"{what}: left out ({row['left_out']})")
            continue
        done = row["images_per_s"] * flop_per_image
        shares = [f"{done / row['product_flop_per_s']:.3f} of a matrix product"]
        if best := peak(head["device"], row["precision"]):
            shares.append(f"{done / best:.3f} of the card's peak")
        whole = by_case.get((row["precision"], row["batch_size"], True), {})
        if not row["lrn"] and "images_per_s" in whole:
            shares.append(f"LRN costs {row['images_per_s'] / whole['images_per_s']:.3f} times")
        print(f"{what}: {row['images_per_s']:9.1f} images/s, {', '.join(shares)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", help="the folder of wheels of Keras and what it needs")
    parser.add_argument("--batch_sizes", default="128,256,512,1024,2048")
    parser.add_argument("--seconds", type=float, default=270, help="no case begins later")
    parser.add_argument("--json", help="writes all figures to this file too")
    parser.add_argument("--part", choices=["jax", "torch"], help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    batch_sizes = [int(size) for size in given.batch_sizes.split(",")]
    if given.part:
        {"jax": jax_part, "torch": torch_part}[given.part](batch_sizes, given.until)
        return
    begin, results, flop_per_image = time.time(), {}, None
    with tempfile.TemporaryDirectory() as unpacked:
        for wheel in pathlib.Path(given.wheels or unpacked).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
        path = os.pathsep.join([str(ROOT), unpacked, os.environ.get("PYTHONPATH", "")])
        for part, share in (("jax", 0.6), ("torch", 1.0)):
            until = begin + share * given.seconds
            done = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    f"--part={part}",
                    f"--until={until}",
                    f"--batch_sizes={given.batch_sizes}",
                ],
                env=os.environ | {"PYTHONPATH": path},
                stdout=subprocess.PIPE,
                text=True,
            )
            head, *rows = [json.loads(line) for line in done.stdout.splitlines()] or [None]
            if head is None:
                print(f"{part}: ended with status {done.returncode} before it measured anything")
                continue
            flop_per_image = flop_per_image or head.get("flop_per_image")
            results[part] = head | {"rows": rows}
            if flop_per_image:
                table(part, head, rows, flop_per_image)
    print(f"{time.time() - begin:.0f} s in all")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(len(results) < 2)


if __name__ == "__main__":
    main()
