"""What is drawn is what was computed, under the right names."""

import io
import pathlib
import types

import keras
import matplotlib
import numpy as np
import pytest
from conftest import CLASS_NAMES, write_lenet5, write_pictures
from matplotlib.figure import Figure
from matplotlib.text import Text

from alexnet_tf import networks
from alexnet_tf.errors import UserError
from alexnet_tf.figures import answers, looking, png, saliency
from alexnet_tf.figures.seen import Pictures, Seen
from alexnet_tf.network.model import build_model
from alexnet_tf.pixels import Preprocessing


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return networks.load(write_lenet5(tmp_path_factory.mktemp("model"), list(CLASS_NAMES)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 4)
    return folder


@pytest.mark.long
def test_maps_lie_over_their_pictures_with_the_class_and_its_probability(network, folder):
    pictures = Pictures(network, [folder])
    figures = looking.draw_occlusion(pictures, square=7), looking.draw_grad_cam(pictures)
    occluded, cams = ([axis for axis in one.axes if len(axis.images) == 2] for one in figures)
    for place, number in enumerate(pictures.some(8)):
        image = pictures.image(number)
        probabilities = network.probabilities(image[None])[0]
        label = int(probabilities.argmax())
        title = f"{CLASS_NAMES[label]} {100 * probabilities[label]:.0f} %"
        assert occluded[place].get_title() == cams[place].get_title() == title
        np.testing.assert_array_equal(occluded[place].images[0].get_array(), image[..., 0])
        expected = saliency.occlusion(
            network.probabilities, image, label, np.array([120], np.uint8), 7, 2
        )
        np.testing.assert_allclose(occluded[place].images[1].get_array(), expected)
        assert f"{100 * expected.max():+.3g} points lost" in occluded[place].get_xlabel()
        drawn, cam = cams[place].images[1].get_array(), saliency.grad_cam(network, image, label)
        assert drawn.shape == (28, 28) and cam.shape == (10, 10)
        assert drawn.mean() == pytest.approx(cam.mean(), rel=0.02)
    assert len(occluded) == len(cams) == 8


def test_a_class_may_be_asked_for(network, folder):
    pictures = Pictures(network, [folder / CLASS_NAMES[0]])
    figure = looking.draw_grad_cam(pictures, CLASS_NAMES[2])
    titles = [axis.get_title() for axis in figure.axes if len(axis.images) == 2]
    assert len(titles) == 4 and all(title.startswith(CLASS_NAMES[2]) for title in titles)
    with pytest.raises(UserError, match="class_name=rose: the network has no such class; it has"):
        looking.draw_occlusion(pictures, "rose")
    for square in (0, 28, -1):
        with pytest.raises(UserError, match=f"square={square}: .*28 x 28 pixels; pass 1 to 27"):
            looking.draw_occlusion(pictures, square=square)


def test_a_class_is_known_in_each_form_of_its_letters(folder, tmp_path):
    named = networks.load(write_lenet5(tmp_path / "model", ["mu\u0308ll", "s\u00e9v", "c"]))
    pictures = Pictures(named, sorted(folder.rglob("*.jpg"))[:1])
    for asked, place in (("m\u00fcll", 0), ("se\u0301v", 1)):
        figure = looking.draw_grad_cam(pictures, asked)
        (title,) = (axis.get_title() for axis in figure.axes if len(axis.images) == 2)
        assert title.startswith(named.class_names[place])


def test_the_pictures_of_a_map_are_those_that_excite_it_most(network, folder):
    pictures = Pictures(network, [folder])
    layer = network.model.get_layer("conv2")
    images = np.stack([pictures.image(number) for number in range(12)])
    (maps,) = saliency.outputs(network, images, [layer])
    strengths, places = looking.strongest(pictures, [layer], _no_progress)[layer]
    np.testing.assert_allclose(strengths, maps.max((1, 2)), rtol=1e-5)
    for number, one in ((0, 0), (7, 3), (11, 15)):
        row, column = places[number, one]
        assert maps[number, row, column, one] == pytest.approx(strengths[number, one], rel=1e-5)
    figure = looking.draw_guided(pictures, _no_progress)
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles[6::2] == ["conv2, map 0", "conv2, map 8", "conv2, map 15"]
    assert titles[0] == "conv1, map 0" and len(titles) == 12
    # the first of nine is the one that excites the map most, cut to 14 x 14: a pool, and two 5 x 5
    drawn = figure.axes[6].images[0].get_array()
    best = int(strengths[:, 0].argmax())
    image = images[best][..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (14, 14)).reshape(-1, 14, 14)
    assert (windows == drawn[:14, :14]).all((1, 2)).any()


class _no_progress:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, _):
        pass


def test_one_picture_is_followed_through_all_layers(network, folder):
    (picture,) = sorted(folder.glob(f"{CLASS_NAMES[1]}/*"))[:1]
    pictures = Pictures(network, [picture])
    figure = looking.draw_feature_maps(pictures)
    names = [text.get_text() for axis in figure.axes for text in axis.texts]
    layers = ["conv1", "pool1", "conv2", "pool2", "fc3", "fc4", "fc5"]
    assert [name.split("\n")[0] for name in names if "\n" in name] == layers
    assert "conv2\n10 x 10 x 16" in names
    (maps,) = saliency.outputs(network, pictures.image(0)[None], [network.model.get_layer("conv2")])
    strongest = int(np.abs(maps[0]).max((0, 1)).argmax())
    drawn = [axis for axis in figure.axes if axis.get_title() == str(strongest) and axis.images]
    assert any(
        np.array_equal(axis.images[0].get_array(), maps[0, ..., strongest]) for axis in drawn
    )
    with pytest.raises(UserError, match="12 pictures: figure=maps follows only one; pass one"):
        looking.draw_feature_maps(Pictures(network, [folder]))


def own_network(*layers):
    """A network of its user's own of 28 x 28 RGB, opened."""
    model = keras.Sequential([keras.Input((28, 28, 3)), *layers])
    pixels = Preprocessing(28, 32, 3, (128.0,) * 3, 64.0)
    return networks.of_keras(model, CLASS_NAMES, pixels)


def test_units_of_each_place_are_followed_too(folder):
    network = own_network(
        keras.layers.Conv2D(8, 7, 7, name="patch"),
        keras.layers.Reshape((16, 8)),
        keras.layers.Dense(5, name="of_places"),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(3, name="answer"),
    )
    pictures = Pictures(network, sorted(folder.rglob("*.jpg"))[:1])
    figure = looking.draw_feature_maps(pictures)
    names = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert "of_places\n16 x 5" in names
    layer = network.model.get_layer("of_places")
    (values,) = saliency.outputs(network, pictures.image(0)[None], [layer])
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert any(np.array_equal(one, values[0].T) for one in drawn)


def test_features_are_called_after_the_layer_that_tells_something():
    model = build_model("one_weird_trick_pool5", 3, 67)
    opened = types.SimpleNamespace(network=types.SimpleNamespace(model=model))
    assert Seen.layer.fget(opened) == "pool5"  # and not flatten, as in the manifest of an export


@pytest.mark.long
def test_features_that_are_maps_are_rows(folder):
    network = own_network(
        keras.layers.Conv2D(3, 5, 4, name="conv"),
        keras.layers.GlobalAveragePooling2D(),
    )
    seen = Seen(network, [folder])
    images = np.stack([seen.image(number) for number in range(12)])
    (maps,) = saliency.outputs(network, images, [network.model.get_layer("conv")])
    np.testing.assert_allclose(seen.features, maps.reshape(12, -1), atol=1e-5)
    expected = network.probabilities(images[3:5])
    np.testing.assert_allclose(seen.probabilities(np.array([3, 4])), expected, atol=1e-5)
    assert looking.principal(seen.features)[0].shape == (12, 2)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_principal_components_are_those_of_the_singular_values(rng, shape):
    features = rng.normal(0, 1, shape) * np.linspace(1, 4, shape[1]) + 7
    along, shares = looking.principal(features)
    u, s, _ = np.linalg.svd(features - features.mean(0))
    np.testing.assert_allclose(np.abs(along), np.abs(u[:, :2] * s[:2]), atol=1e-8)
    np.testing.assert_allclose(shares, s[:2] ** 2 / (s**2).sum())
    assert (along[np.abs(along).argmax(0), [0, 1]] > 0).all()


def test_a_map_has_all_pictures_at_their_places(network, folder):
    seen = Seen(network, [folder])
    (axis,) = looking.draw_map(seen).axes
    along, shares = looking.principal(seen.features)
    drawn = np.concatenate([points.get_offsets() for points in axis.collections])
    np.testing.assert_allclose(drawn, along)  # by class, as the files are in order
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(CLASS_NAMES)
    assert f"{100 * shares[0]:.0f} %" in axis.get_xlabel() and len(axis.artists) == 12
    images = [artist.offsetbox.get_children()[0] for artist in axis.artists]
    assert {(image.norm.vmin, image.norm.vmax) for image in images} == {(0, 255)}
    with pytest.raises(UserError, match="2 picture.s. are too few for a map; pass three"):
        looking.draw_map(Seen(network, sorted(folder.rglob("*.jpg"))[:2]))


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend(folder):
    seen = types.SimpleNamespace(
        files=["a", "b", "c"],
        labels=np.array([0, 1, -1]),
        features=np.eye(3, dtype=np.float32),
        network=types.SimpleNamespace(
            class_names=("_background_noise_", "yes"),
            settings=types.SimpleNamespace(variant="own"),
        ),
        layer="fc4",
        image=lambda _: np.zeros((8, 8, 3), np.uint8),
        some=lambda _: range(3),
    )
    (axis,) = looking.draw_map(seen).axes
    found = [text.get_text() for text in axis.get_legend().get_texts()]
    assert found == ["_background_noise_", "yes"]


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize(
    "draw",
    [
        looking.draw_occlusion,
        looking.draw_grad_cam,
        answers.draw_confusions,
        answers.draw_neighbours,
        answers.draw_predictions,
    ],
)
def test_long_names_and_titles_leave_room_and_are_not_cut_off(draw, pictures, monkeypatch):
    names = ("German shepherd, German shepherd dog, German police dog", "Highland terrier", "c")
    monkeypatch.setattr(saliency, "grad_cam", lambda *_: np.ones((3, 3), np.float32))
    monkeypatch.setattr(saliency, "last_convolution", lambda _: ("conv5", []))
    seen = types.SimpleNamespace(
        files=["a", "b", "c"],
        labels=np.array([0, 1, -1]),
        features=np.eye(3, dtype=np.float32),
        network=types.SimpleNamespace(
            class_names=names,
            settings=types.SimpleNamespace(variant="one_weird_trick_pool5"),
            preprocessing=Preprocessing(8, 8, 3, (0.0,) * 3, 1.0),
            probabilities=lambda images: np.tile([0.93, 0.04, 0.03], (len(images), 1)),
        ),
        layer="pool5",
        image=lambda _: np.zeros((8, 8, 3), np.uint8),
        name=lambda number: names[number],
        probabilities=lambda numbers: np.tile([0.93, 0.04, 0.03], (len(numbers), 1)),
        some=lambda _: np.arange(pictures),
    )
    drawn = []
    png.write(lambda: drawn.append(draw(seen)) or drawn[0], io.BytesIO())  # warnings are errors
    drawn[0].draw_without_rendering()  # what is measured below is at its own resolution
    whole = drawn[0].bbox
    for text in (text for text in drawn[0].findobj(Text) if text.get_text()):
        place = text.get_window_extent()
        assert place.x0 >= whole.x0 - 1 and place.x1 <= whole.x1 + 1, text.get_text()
    if draw in (looking.draw_occlusion, looking.draw_grad_cam):
        titles = [axis.get_title() for axis in drawn[0].axes if len(axis.images) == 2]
        assert titles == ["German shepherd, German… 93 %"] * pictures
    if draw is answers.draw_neighbours:
        ends = [axis.title.get_window_extent() for axis in drawn[0].axes[:3]]
        assert all(left.x1 < right.x0 for left, right in zip(ends, ends[1:]))


def drawn_with(fonts, words, path, monkeypatch):
    """(what was noted, the fonts of the words, in a figure that is written to `path`)."""
    monkeypatch.setattr(png, "_system_fonts", lambda: fonts)
    notes, figures = [], []

    def draw():
        figures.append(Figure())
        figures[0].suptitle(words)
        return figures[0]

    png.write(draw, path, notes.append)
    return notes, figures[0].get_suptitle() and figures[0]._suptitle.get_fontfamily()


def test_letters_that_the_font_lacks_are_taken_from_another(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    notes, _ = drawn_with([], "fünf 猫 犬, a\nb", path, monkeypatch)
    assert notes and notes[0].startswith("No font on this system has 犬 猫, drawn as boxes;")
    assert path.stat().st_size > 1000
    own = pathlib.Path(matplotlib.get_data_path(), "fonts/ttf")
    stix, all_letters = (
        str(own / name) for name in ("STIXGeneral.ttf", "LastResortHE-Regular.ttf")
    )
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    fonts = [str(tmp_path / "broken.ttf"), stix, all_letters]
    notes, families = drawn_with(fonts, "猫", path, monkeypatch)
    assert notes == [] and families[1:] == ["Last Resort High-Efficiency"]
    notes, families = drawn_with(fonts[:2], "猫", path, monkeypatch)
    assert notes and len(families) == 1
    notes, families = drawn_with(fonts, "fünf", path, monkeypatch)
    assert notes == [] and len(families) == 1


def test_a_figure_is_no_picture_of_a_folder(network, tmp_path):
    pictures = write_pictures(tmp_path, 1)
    other = tmp_path / "other.png"
    Figure().savefig(other)  # of Matplotlib, and not of ours
    assert len(Pictures(network, [tmp_path]).files) == len(pictures) + 1
    png.write(Figure, tmp_path / "embedding.png")
    with pytest.raises(UserError, match="embedding.png is a figure that alexnet visualize drew"):
        Pictures(network, [tmp_path])
    assert len(Pictures(network, [tmp_path / "embedding.png"]).files) == 1  # it is meant


def test_a_picture_that_breaks_meanwhile_is_named(network, tmp_path):
    victim = write_pictures(tmp_path, 1)[0]
    pictures = Pictures(network, [tmp_path])
    victim.write_bytes(b"no picture any more")
    with pytest.raises(UserError, match=f"{victim.name} does not decode as a picture"):
        looking.draw_occlusion(pictures)
    victim.unlink()
    with pytest.raises(UserError, match=f"{victim.name} cannot be read"):
        looking.draw_grad_cam(pictures)
