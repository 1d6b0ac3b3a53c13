"""Trains by Ray Train: Ray starts the workers and tells each its place; the loop is ours.

    pip install 'ray[train]'      # an extra: nothing else here needs it
    python ray_train.py --workers=2 --model_dir=/shared/models/mine --data_dir=/shared/pictures

`model_dir` and `data_dir` are on a disk that all workers see. When a worker is lost, Ray starts all
of them again, at most --failures times, and they go on from the last checkpoint in model_dir; Ray's
own checkpoints are not used.
"""

import argparse
import pathlib


def train_worker(config: dict) -> None:
    """What each worker runs; TF_CONFIG, which Ray has set, tells it its place."""
    import ray.train

    import alexnet_tf
    from alexnet_tf.training import devices

    strategy = devices.distribution("multi_worker", replicas=0)
    dataset = alexnet_tf.open_dataset("folder", config["data_dir"])
    network = alexnet_tf.train(
        config["model_dir"], dataset, config["variant"], strategy=strategy, **config["plan"]
    )
    ray.train.report({name: network.figures[name] for name in ("loss", "top_1")})


def main() -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    import alexnet_tf
    from alexnet_tf.training.plan import Plan

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", action="store_true", help="one GPU a worker")
    parser.add_argument("--failures", type=int, default=20)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--variant", default="paper")
    parser.add_argument("--batch_size", type=int, default=Plan.batch_size)
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    given = parser.parse_args()
    model_dir, data_dir = (
        str(pathlib.Path(path).absolute()) for path in (given.model_dir, given.data_dir)
    )
    TensorflowTrainer(
        train_worker,
        train_loop_config={
            "model_dir": model_dir,
            "data_dir": data_dir,
            "variant": given.variant,
            "plan": {"batch_size": given.batch_size, "epochs": given.epochs},
        },
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpus),
        run_config=RunConfig(
            storage_path=str(pathlib.Path(model_dir).parent / "ray"),
            failure_config=FailureConfig(max_failures=given.failures),
        ),
    ).fit()
    print(f"{model_dir}: {alexnet_tf.load(model_dir).figures}")


if __name__ == "__main__":
    main()
