"""The trunk from the package index: the same bits, and an ordinary model of it in every form."""

import json
import pathlib

from alexnet_tf import networks, pretrained
from alexnet_tf.training import checkpoints

# Of conv1 to conv5 as they are imported: a name stands for the same bits wherever they come from.
ROOT = pathlib.Path(__file__).parent.parent.parent
WEIGHTS = "ff5a7aa99d79fd3921be1960141251910b7cdeb5cb111e8d5dd89afca86d7bc9"


def test_imagenet_is_always_the_same_and_makes_an_ordinary_model(run, picture_folder, tmp_path):
    path = pretrained.fetch("imagenet", tmp_path / "cache")
    network = networks.load(path)
    assert checkpoints.weights_digest(network.model) == WEIGHTS
    assert (network.settings.variant, network.settings.missing) == (
        "one_weird_trick_pool5",
        ("fc8",),
    )
    run(
        "-m",
        "alexnet_tf.finetune",
        "--pretrained=imagenet",
        "--cache_dir=cache",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--model_dir=model",
        "--json=tuned.json",
        cwd=tmp_path,
    )
    tuned = json.loads((tmp_path / "tuned.json").read_text())
    assert tuned["top_1"] > 0.8  # 24 drawn pictures of three classes; at random it would be a third
    run("-m", "alexnet_tf.export", "--model_dir=model", "--output=exports", cwd=tmp_path)
    for quantization in ("none", "float16", "dynamic", "int8"):
        run(
            ROOT / "tools/convert_tflite.py",
            "--saved_model=exports",
            f"--quantization={quantization}",
            f"--output={quantization}.tflite",
            cwd=tmp_path,
        )
        picture = next((picture_folder / "test/plain star").iterdir())
        answer = networks.load(tmp_path / f"{quantization}.tflite").classify(picture)
        assert answer[0][0] == networks.load(tmp_path / "exports").classify(picture)[0][0]
    run(
        "-m",
        "alexnet_tf.export",
        "--pretrained=imagenet",
        "--cache_dir=cache",
        "--output=features",
        cwd=tmp_path,
    )
    for quantization in ("none", "float16", "dynamic", "int8"):
        run(
            ROOT / "tools/convert_tflite.py",
            "--saved_model=features",
            "--dataset=folder",
            f"--data_dir={picture_folder}",
            f"--quantization={quantization}",
            f"--output=features_{quantization}.tflite",
            "--json=compared.json",
            cwd=tmp_path,
        )
        compared = json.loads((tmp_path / "compared.json").read_text())
        print(f"features, {quantization}: they differ by {compared['largest difference']:.1e}")
    print(f"trunk: 24 + 9 drawn pictures, top-1 {tuned['top_1']:.3f}, loss {tuned['loss']:.3f}")
