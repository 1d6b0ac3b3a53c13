"""Answers and neighbours are those of the network, and the features written are what evaluation
would make of the pictures.
"""

import io
import json
import os
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import call
from conftest import CLASS_NAMES, LENET5_PIXELS, little_room, write_lenet5, write_pictures
from matplotlib.colors import to_rgba

from alexnet_tf import console, networks, preprocessing, pretrained
from alexnet_tf.commands import visualize
from alexnet_tf.data import listing, shapes
from alexnet_tf.errors import UserError
from alexnet_tf.figures import answers, curves, filters, looking
from alexnet_tf.figures.seen import Pictures, Seen
from alexnet_tf.jobs.convert import convert
from alexnet_tf.jobs.export import export
from alexnet_tf.network import surgery
from alexnet_tf.network.model import build_model
from alexnet_tf.training import checkpoints


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_lenet5(tmp_path_factory.mktemp("model"), list(CLASS_NAMES))


@pytest.fixture(scope="module")
def exported(model_dir, run, tmp_path_factory):
    """A version of the same model as a SavedModel."""
    folder = tmp_path_factory.mktemp("exported")
    run("-m", "alexnet_tf.export", f"--model_dir={model_dir}", f"--output={folder}/net", cwd=folder)
    return folder / "net/1"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """4 pictures of each class, and one in a folder that is no class."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = write_pictures(folder, 4)
    (folder / "unknown").mkdir()
    (folder / "unknown/a twin.jpg").write_bytes(paths[5].read_bytes())
    return folder


def test_features_are_what_the_network_makes_of_each_picture(model_dir, pictures, tmp_path):
    call(visualize, f"--features={tmp_path}/f.npz", f"--model_dir={model_dir}", pictures)
    # nothing drawn, nothing left over
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]
    written = np.load(tmp_path / "f.npz")
    model = checkpoints.load_model(model_dir).model
    trunk = surgery.trunk(model)
    assert written["features"].shape == (13, 84) and written["features"].dtype == np.float32
    for file, row in zip(written["files"], written["features"]):
        crop = preprocessing.decode_central_crop(tf.io.read_file(file), LENET5_PIXELS)
        np.testing.assert_allclose(
            trunk(preprocessing.to_network_input(crop[None], LENET5_PIXELS))[0],
            row,
            rtol=1e-5,
            atol=1e-6,
        )
    assert written["labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1]
    assert (written["class_names"].tolist(), str(written["layer"])) == (list(CLASS_NAMES), "fc4")
    assert str(written["weights_sha256"]) == checkpoints.weights_digest(model)


@pytest.mark.long
def test_what_is_deployed_has_the_same_features_answers_and_filters(
    model_dir, exported, pictures, tmp_path
):
    opened = [networks.load(path) for path in (model_dir, exported)]
    trained, deployed = (Seen(network, [pictures]) for network in opened)
    np.testing.assert_allclose(deployed.features, trained.features, rtol=1e-4, atol=1e-6)
    assert (deployed.files, deployed.labels.tolist()) == (trained.files, trained.labels.tolist())
    assert (deployed.layer, opened[1].step) == (trained.layer, opened[0].step) == ("fc4", 7)
    np.testing.assert_array_equal(*map(filters.kernels_of, opened))
    first = np.arange(3)
    np.testing.assert_allclose(
        deployed.probabilities(first), trained.probabilities(first), rtol=1e-4
    )
    for figure in ("filters", "predictions", "neighbours", "confusions"):
        call(
            visualize,
            f"--figure={figure}",
            f"--output={tmp_path}/{figure}.png",
            f"--model_dir={exported}",
            *([pictures] if figure != "filters" else []),
        )
        assert (tmp_path / f"{figure}.png").stat().st_size > 5000


def test_neighbours_are_the_nearest_by_euclid_and_a_picture_comes_first(model_dir, pictures):
    seen = Seen(networks.load(model_dir), [pictures])
    figure = answers.draw_neighbours(seen)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 5 * 7
    for row, query in enumerate(seen.some(5)):
        distances = ((seen.features - seen.features[query]) ** 2).sum(1)
        distances[query] = np.inf
        assert titles[7 * row] == seen.name(query)
        assert titles[7 * row + 1] == seen.name(int(np.argmin(distances)))
    # the last query, and the same picture under its class
    assert titles[-7:-5] == ["a twin.jpg", "plain star"]


def test_predictions_show_the_five_best_with_the_right_one_marked(model_dir, pictures):
    seen = Seen(networks.load(model_dir), sorted(pictures.iterdir()))
    figure = answers.draw_predictions(seen)
    charts = [axis for axis in figure.axes if axis.patches]
    assert len(charts) == 8
    model = checkpoints.load_model(model_dir).model
    for axis, number in zip(charts, seen.some(8)):
        expected = tf.nn.softmax(
            model(preprocessing.to_network_input(seen.image(number)[None], LENET5_PIXELS))
        )[0].numpy()
        order = np.argsort(-expected)
        assert [text.get_text() for text in axis.texts] == [
            f"{CLASS_NAMES[label]} {100 * expected[label]:.1f} %" for label in order
        ]
        np.testing.assert_allclose(
            [bar.get_width() for bar in axis.patches], expected[order], rtol=1e-4
        )
        marked = [
            label
            for label, bar in zip(order, axis.patches)
            if bar.get_facecolor() == to_rgba("lightcoral")
        ]
        assert marked == [label for label in order if label == seen.labels[number]]


@pytest.mark.parametrize("kind", ["model_dir", pytest.param("exported", marks=pytest.mark.long)])
def test_confusions_count_each_picture_of_a_known_class(kind, pictures, request):
    seen = Seen(networks.load(request.getfixturevalue(kind)), [pictures])
    notes = []
    figure = answers.draw_confusions(seen, notes.append)
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    said = [CLASS_NAMES[label] for label in seen.probabilities(np.arange(13)).argmax(1)]
    expected = np.zeros([len(names)] * 2, int)
    for label, answer in zip(seen.labels, said):
        if label >= 0:
            expected[names.index(CLASS_NAMES[label]), names.index(answer)] += 1
    shown = np.zeros_like(expected)
    for text in axes.texts:
        shown[int(text.get_position()[1]), int(text.get_position()[0])] = int(text.get_text())
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_allclose(
        axes.images[0].get_array(), expected / np.maximum(expected.sum(1, keepdims=True), 1)
    )
    assert expected.sum() == 12 and figure.get_suptitle().endswith(
        f"{np.trace(expected)} of 12 pictures right; 1 of no class left out"
    )
    assert notes == [
        "1 of the 13 pictures are in no folder that is named after one of the network's classes,"
        f" and are left out: {pictures}/unknown/a twin.jpg"
    ]
    seen = Seen(seen.network, [pictures / CLASS_NAMES[1]])
    title = answers.draw_confusions(seen, notes.append).get_suptitle()
    assert title.endswith(" of 4 pictures right")
    (line,) = notes[1:]
    assert line.startswith("Not evaluated, for lack of pictures in what was passed: ")
    assert CLASS_NAMES[0] in line and CLASS_NAMES[1] not in line
    with pytest.raises(UserError, match="No picture is in a folder that is named after"):
        answers.draw_confusions(Seen(seen.network, [pictures / "unknown"]))


@pytest.fixture(scope="module")
def forms(exported, pictures, tmp_path_factory):
    """The same model as a .tflite and an .onnx file."""
    folder = tmp_path_factory.mktemp("forms")
    convert(exported, folder / "net.tflite", pictures=pictures, note=console.silence)
    version = export(exported, folder / "net", format="onnx", note=console.silence)
    return folder / "net.tflite", version / "model.onnx"


@pytest.mark.long
def test_what_it_looks_at_is_drawn_of_every_form(model_dir, exported, forms, pictures, tmp_path):
    for model in (model_dir, exported, *forms):
        output = tmp_path / f"{model.name}.png"
        arguments = f"--model_dir={model}", f"--output={output}", pictures / CLASS_NAMES[0]
        call(
            visualize,
            "--figure=occlusion",
            "--square=12",
            f"--class_name={CLASS_NAMES[1]}",
            *arguments,
        )
        assert output.stat().st_size > 5000
    for kind in ("gradcam", "deconvolution", "embedding"):
        call(visualize, f"--figure={kind}", *arguments[1:], f"--model_dir={exported}")
        for file in forms:
            with pytest.raises(UserError, match="pass the model directory or the export"):
                call(visualize, f"--figure={kind}", *arguments[1:], f"--model_dir={file}")
    picture = pictures / "unknown/a twin.jpg"
    call(visualize, "--figure=maps", f"--output={output}", f"--model_dir={exported}", picture)
    with pytest.raises(UserError, match="pass the model directory or the export"):
        call(visualize, "--figure=maps", f"--output={output}", f"--model_dir={forms[0]}", picture)


@pytest.mark.long
def test_occlusion_of_a_tflite_file_is_that_of_its_model(model_dir, forms, pictures):
    opened = [networks.load(path) for path in (model_dir, *forms)]
    drawn = [
        [
            axis.images[1].get_array()
            for axis in looking.draw_occlusion(Pictures(one, [pictures])).axes
            if len(axis.images) == 2
        ]
        for one in opened
    ]
    for other in drawn[1:]:
        np.testing.assert_allclose(other, drawn[0], atol=1e-4)


def test_figures_are_written(model_dir, pictures, tmp_path, capsys):
    call(
        visualize,
        "--figure=neighbours",
        f"--output={tmp_path}/n.png",
        f"--model_dir={model_dir}",
        pictures,
    )
    assert (
        capsys.readouterr().out == f"{tmp_path}/n.png\n"
        and (tmp_path / "n.png").stat().st_size > 10_000
    )


def test_odd_names_are_drawn_as_they_are(model_dir, pictures, tmp_path):
    picture = next((pictures / CLASS_NAMES[0]).glob("*.jpg")).read_bytes()
    (tmp_path / "a$^$b.jpg").write_bytes(picture)
    with open(os.path.join(os.fsencode(tmp_path), b"bl\xfcte.jpg"), "wb") as file:
        file.write(picture)
    call(
        visualize,
        "--figure=predictions",
        f"--output={tmp_path}/p.png",
        f"--model_dir={model_dir}",
        tmp_path,
    )
    assert (tmp_path / "p.png").exists()


def test_no_picture_that_is_looked_at_is_replaced(model_dir, tmp_path):
    before = shapes.draw_jpeg("test", 0)
    (tmp_path / "a.png").write_bytes(before)
    given = ["--figure=predictions", f"--model_dir={model_dir}", tmp_path]
    with pytest.raises(UserError, match=r"a\.png is one of the input pictures"):
        call(visualize, f"--output={tmp_path}/a.png", *given)
    assert (tmp_path / "a.png").read_bytes() == before


def test_what_was_drawn_is_told_as_json(model_dir, tmp_path):
    (tmp_path / "a.jpg").write_bytes(shapes.draw_jpeg("test", 0))
    given = [f"--model_dir={model_dir}", f"--json={tmp_path}/told.json"]
    output, features = f"{tmp_path}/p.png", f"{tmp_path}/f.npz"
    call(
        visualize,
        "--figure=predictions",
        *given,
        f"--output={output}",
        f"--features={features}",
        tmp_path,
    )
    assert json.loads((tmp_path / "told.json").read_text()) == {
        "pictures": 1,
        "features": features,
        "figure": "predictions",
        "output": output,
    }


def test_steps_stand_in_their_epochs_where_pictures_were_added(tmp_path):
    whole = {"loss": 1.0, "top_1": 0.5}
    rows = [{"step": step} for step in (2, 4, 6, 10)]
    rows[1:1] = [whole | {"step": 4, "epoch": 1}, whole | {"step": 10, "epoch": 2}]
    lines = (json.dumps(row | {"train_loss": 1.0, "train_top_1": 0.5}) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 13')
    loss, _ = curves.draw_curves([tmp_path]).axes
    assert list(loss.lines[0].get_xdata()) == pytest.approx([0.5, 1, 1 + 2 / 6, 2])


@pytest.mark.parametrize(
    "logged,drawn",
    [
        ([(4, 1), (8, 2), (9, 2)], [1, 2, 3]),
        ([(4, 1), (8, 2), (12, 3), (16, 2), (24, 3)], [1, 2, 3, 4, 5]),
        ([(8, 1), (16, 2), (20, 5)], [1, 2, 3]),
        ([(4, 0), (9, 1)], [1, 2]),
        ([(40, 10)], [10]),
        ([(4, 1), (8, 2), (8, 2), (12, 3)], [1, 2, 3]),
    ],
)
def test_epochs_that_earlier_versions_numbered_by_the_pictures_follow_each_other(
    tmp_path, logged, drawn
):
    measured = {"loss": 1.0, "top_1": 0.5, "train_loss": 1.0, "train_top_1": 0.5}
    rows = [measured | {"step": step, "epoch": epoch} for step, epoch in logged]
    rows.append({"step": rows[-1]["step"] + 1, "train_loss": 1.0, "train_top_1": 0.5})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training, evaluation = curves.draw_curves([tmp_path]).axes[0].lines
    assert list(evaluation.get_xdata()) == drawn
    (last,) = training.get_xdata()
    assert drawn[-1] < last <= drawn[-1] + 1
    assert training.get_marker() == "."  # one point makes no line
    assert training.axes.get_xlim()[0] == 0 and training.axes.get_ylim() == pytest.approx((0, 1.05))


def test_trainings_in_folders_of_one_name_are_told_apart(tmp_path):
    row = {"epoch": 1, "step": 4, "loss": 1.0, "top_1": 0.5, "train_loss": 1.0, "train_top_1": 0.5}
    folders = [tmp_path / name for name in ("one/_model", "two/_model", "_new")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    _, error = curves.draw_curves(folders).axes
    found = [text.get_text() for text in error.get_legend().get_texts()]
    assert found[1:3] == ["one/_model, evaluation", "two/_model, training"]
    _, error = curves.draw_curves(folders[1:]).axes
    found = [text.get_text() for text in error.get_legend().get_texts()]
    assert found == [
        f"{name}, {part}" for name in ("_model", "_new") for part in ("training", "evaluation")
    ]


def test_the_training_of_a_head_has_a_curve_too(tmp_path, monkeypatch, capsys):
    rows = [
        {
            "epoch": epoch,
            "step": 4 * epoch,
            "loss": 2 / epoch,
            "top_1": 0.5,
            "train_loss": 1 / epoch,
            "train_top_1": 0.6,
        }
        for epoch in (1, 2, 3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss, _ = curves.draw_curves([tmp_path]).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[1, 1 / 2, 1 / 3], [2, 1, 2 / 3]]
    _, error = curves.draw_curves([tmp_path], "caffe").axes
    published = error.lines[-1]
    assert list(published.get_xdata()) == list(range(4, 101, 4))
    assert published.get_ydata()[[0, 1, -1]] == pytest.approx([67.0, 59.9, 41.4])
    assert published.get_label() in [text.get_text() for text in error.get_legend().get_texts()]
    with pytest.raises(UserError, match="names 11 trainings, but there are colours for only 10"):
        curves.draw_curves([tmp_path] * 11)
    monkeypatch.chdir(tmp_path)
    call(visualize, "--figure=curves", f"--model_dir={tmp_path}")
    assert capsys.readouterr().out == "curves.png\n" and (tmp_path / "curves.png").exists()


def test_a_figure_that_cannot_be_written_leaves_the_one_before(model_dir, tmp_path):
    path = tmp_path / "f.png"
    path.write_text("the one before")
    with (
        little_room(1000),
        pytest.raises(UserError, match="--output=.*f.png cannot be written .File too large"),
    ):
        call(visualize, "--figure=filters", f"--model_dir={model_dir}", f"--output={path}")
    assert path.read_text() == "the one before" and len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_opened(monkeypatch):
    flag = "output=none/a.png"
    monkeypatch.setattr(networks, "load", None)
    with pytest.raises(UserError, match=f"^--{flag} cannot be written; name a file in a folder"):
        call(visualize, "--figure=occlusion", f"--{flag}", "a.jpg")


def test_weights_by_name_are_looked_at(model_dir, pictures, tmp_path, monkeypatch):
    asked = []

    def fetch(*arguments):
        asked.append(arguments)
        return model_dir

    monkeypatch.setattr(pretrained, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    call(visualize, "--figure=filters", "--pretrained=imagenet", "--cache_dir=kept")
    call(visualize, "--features=f.npz", "--pretrained=trunk", pictures / CLASS_NAMES[0])
    assert asked == [("imagenet", "kept"), ("trunk", None)]
    digest = checkpoints.weights_digest(checkpoints.load_model(model_dir).model)
    assert str(np.load("f.npz")["weights_sha256"]) == digest
    assert sorted(os.listdir(tmp_path)) == ["f.npz", "filters.png"]
    for arguments, message in (
        (["--figure=filters", "--model_dir=a"], "and --model_dir=a are two networks; pass one"),
        (["--figure=curves"], "was not trained here, and has no curves; pass --model_dir, or"),
        (["--figure=curves", "--features=f.npz", pictures], "has no curves"),
    ):
        with pytest.raises(UserError, match=f"^--pretrained=caffe .*{message}"):
            call(visualize, "--pretrained=caffe", *arguments)
    with pytest.raises(UserError, match="--cache_dir=kept is for --pretrained; omit it"):
        call(visualize, "--figure=curves", "--cache_dir=kept")


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--figure=predictions"], "No picture given"),
        (["--figure=neighbours", "nowhere"], "nowhere does not exist"),
        (["--features=f.txt"], "name an .npz file"),
        (["--figure=filters", "some.jpg"], "--figure=filters takes no pictures"),
        (["--figure=predictions", "--model_dir=a,b"], "only --figure=curves takes several"),
        (["--figure=gradcam"], "No picture given"),
        (["--figure=filters", "--reference=caffe"], "--figure=filters draws no curve"),
        (
            ["--figure=deconvolution", "--class_name=rose", "a.jpg"],
            "--figure=deconvolution takes no class",
        ),
        (["--figure=gradcam", "--square=9", "a.jpg"], "--figure=gradcam hides nothing"),
        (["--precision=mixed_bfloat16"], "--figure=curves computes nothing; omit it"),
        (
            ["--features=f.npz", "--output=a.png", "a.jpg"],
            "--output=a.png: --features without --figure draws nothing",
        ),
    ],
)
def test_mistakes_are_refused(model_dir, arguments, message):
    with pytest.raises(UserError, match=message):
        call(visualize, f"--model_dir={model_dir}", *arguments)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["model_dir", pytest.param("exported", marks=pytest.mark.long)])
def test_a_picture_that_breaks_while_it_is_looked_at_is_named(kind, tmp_path, monkeypatch, request):
    write_pictures(tmp_path, 2)
    victim = next(tmp_path.rglob("*.jpg"))
    listed = listing.list_pictures

    def list_and_break(*arguments):
        split, files = listed(*arguments)
        victim.write_bytes(b"no picture any more")
        return split, files

    monkeypatch.setattr(listing, "list_pictures", list_and_break)
    with pytest.raises(UserError, match=f"{victim.name} .*; replace it or take it out"):
        Seen(networks.load(request.getfixturevalue(kind)), [tmp_path])


def test_pictures_that_are_none_are_named(model_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No picture .* in .*empty"):
        Seen(networks.load(model_dir), [tmp_path / "empty"])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="bad.jpg cannot be read"):
        Seen(networks.load(model_dir), [tmp_path])


def test_the_first_convolution_of_a_network_of_ones_own_is_drawn():
    def own(*layers):
        model = keras.Sequential([keras.Input((12, 12, 3)), *layers, keras.layers.Dense(2)])
        return types.SimpleNamespace(model=model, path="own")

    inner = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Conv2D(5, 3)])
    (found,) = filters.kernels_of(own(inner, keras.layers.Conv2D(4, 3)))
    assert found.shape == (3, 3, 3, 5)
    with pytest.raises(UserError, match="no convolution"):
        filters.draw_filters(own())
    for kernel, channels in ((1, 3), (1, 1), (3, 1)):
        images = keras.Input((12, 12, channels))
        one = keras.Sequential([images, keras.layers.Conv2D(4, kernel), keras.layers.Dense(2)])
        settings = types.SimpleNamespace(variant="own")
        of = types.SimpleNamespace(model=one, path="own", step_of_weights=1, settings=settings)
        filters.draw_filters(of).savefig(io.BytesIO())
    with pytest.raises(UserError, match="of own reads 4 channels; only kernels that read pictures"):
        filters.draw_filters(own(keras.layers.Dense(4), keras.layers.Conv2D(4, 3)))
    # of both steps of a separable one the kernel that does the same
    one = own(keras.layers.SeparableConv2D(5, 3, depth_multiplier=2), keras.layers.Conv2D(4, 5))
    (found,) = filters.kernels_of(one)
    images = np.random.default_rng(0).normal(size=(1, 12, 12, 3)).astype(np.float32)
    np.testing.assert_allclose(
        tf.nn.conv2d(images, found, 1, "VALID"), one.model.layers[0](images), atol=1e-5
    )
    with pytest.raises(UserError, match="of own, deep, is a DepthwiseConv2D, which has no kernel"):
        filters.kernels_of(own(keras.layers.DepthwiseConv2D(3, name="deep")))
    # whatever layers further up are called
    early, late = keras.layers.Conv2D(5, 3, name="stem"), keras.layers.Conv2D(4, 3, name="conv1")
    named = own(early, late)
    named.step_of_weights, named.settings = 0, types.SimpleNamespace(variant="own")
    assert filters.draw_filters(named).get_suptitle() == "stem of own"
    (found,) = filters.kernels_of(
        own(keras.layers.Conv2D(5, 3, name="conv1a"), type(late)(4, 3, name="conv1b"))
    )
    assert found.shape == (3, 3, 3, 5)
    whole = types.SimpleNamespace(model=build_model("half", 3, 67), path="half")
    (found,) = filters.kernels_of(whole)
    assert found.shape == (11, 11, 3, 48)


@pytest.mark.parametrize(
    "begin,order",
    [
        (keras.applications.vgg16.preprocess_input, [2, 1, 0]),  # BGR less its mean
        (
            lambda images: keras.ops.stack([images[..., place] for place in (1, 2, 0)], -1),
            [2, 0, 1],
        ),
        (lambda images: images[..., ::-1] / 127.5 - 1, [2, 1, 0]),
        (lambda images: images / 127.5 - 1, [0, 1, 2]),
        (lambda images: keras.ops.repeat(keras.ops.max(images, -1, True), 3, -1), [0, 1, 2]),
    ],
)
def test_kernels_are_drawn_in_the_colours_of_the_pixels(begin, order):
    """Whatever order of channels the first convolution reads."""
    images = keras.Input((12, 12, 3))
    convolution = keras.layers.Conv2D(2, 3)
    model = keras.Model(images, keras.layers.Flatten()(convolution(begin(images))))
    settings = types.SimpleNamespace(variant="own")
    network = types.SimpleNamespace(model=model, path="own", step_of_weights=0, settings=settings)
    drawn = filters.draw_filters(network).axes[1].images[0].get_array()
    kernel = convolution.kernel.numpy()[:, :, order, 1]
    expected = (kernel - kernel.min()) / (kernel.max() - kernel.min())
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
