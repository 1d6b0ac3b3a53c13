"""What was held out stays so, whatever is done to the folder; a training goes on after advice."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny_pictures
from conftest import CLASS_NAMES, write_lenet5, write_pictures

from alexnet_tf.data import datasets, held_out, pictures, prepared, record, shapes, store
from alexnet_tf.data.names import SplitNames
from alexnet_tf.errors import UserError


class TinyHalves(tiny_pictures.TinyPictures):
    """40 to train on, and 10 to test on."""

    def _split_generators(self, dl_manager):
        numbered = list(self._generate_examples())
        return {"train": iter(numbered[:40]), "test": iter(numbered[40:])}


TRAIN = (
    "-m",
    "alexnet_tf",
    "train",
    "--dataset=folder",
    "--data_dir=pictures",
    "--variant=lenet5",
    "--xla=off",
    "--batch_size=6",
    "--learning_rate=0.01",
)


@pytest.fixture
def folder(tmp_path):
    """Class folders alone, of 12 pictures each."""
    write_pictures(tmp_path / "pictures", 12)
    return tmp_path / "pictures"


def names_in(split):
    return {split.name_of(number) for number in range(split.examples)}


def add(folder, count, first=100):
    """Adds to each class."""
    return [
        _add(folder / name, first + number * len(CLASS_NAMES) + label)
        for label, name in enumerate(CLASS_NAMES)
        for number in range(count)
    ]


def _add(folder, number):
    path = folder / f"{number}.jpg"
    path.write_bytes(shapes.draw_jpeg("test", number))
    return str(path)


def test_a_record_is_read_as_it_was_written(tmp_path, rng):
    known = record.Record(
        np.unique(rng.integers(0, 2**64, 100, np.uint64)),
        np.unique(rng.integers(0, 2**64, 9, np.uint64)),
    )
    record.write(tmp_path, known)
    again = record.read(tmp_path)
    assert (
        again.trained.tolist() == known.trained.tolist()
        and again.held_out.tolist() == known.held_out.tolist()
    )
    assert again.trunk is None and again.below() is again
    of_head = record.Record(known.trained, known.held_out, record.Record(known.held_out))
    record.write(tmp_path, of_head)
    trunk = record.read(tmp_path).below()
    assert (trunk.trained == known.held_out).all() and not len(trunk.held_out)
    assert record.union([of_head, known]).below().trained.tolist() == known.trained.tolist()
    content = (tmp_path / record.FILE).read_bytes()
    (tmp_path / record.FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"pictures.npz, the record of .* cannot be read"):
        record.read(tmp_path)
    assert record.read(tmp_path / "nowhere") is None


def test_a_picture_is_drawn_by_itself_and_copies_go_together(rng):
    identities, labels = rng.integers(0, 2**64, 30_000, np.uint64), np.repeat(np.arange(3), 10_000)
    held = record.divide(labels, identities, 0.1, seed=0)
    assert np.abs(np.bincount(labels[held]) - 1000).max() < 100  # 3 standard deviations
    part = rng.permutation(30_000)[:20_000]
    np.testing.assert_array_equal(
        record.divide(labels[part], identities[part], 0.1, seed=0), held[part]
    )
    other = record.divide(labels, identities, 0.1, seed=1)
    assert 200 < (held & other).sum() < 400  # independent draws
    twice = record.divide(
        np.concatenate([labels, labels]), np.concatenate([identities, identities]), 0.1, seed=0
    )
    np.testing.assert_array_equal(twice, np.concatenate([held, held]))


@pytest.mark.parametrize("pictures", [1, 2, 3, 4])
def test_a_class_of_few_pictures_keeps_one_where_it_has_two(rng, pictures):
    for seed in range(30):
        labels = np.repeat(np.arange(5), pictures)
        held = record.divide(labels, rng.integers(0, 2**64, len(labels), np.uint64), 0.1, seed)
        counts = np.bincount(labels[held], minlength=5)
        assert (
            (counts == 0).all()
            if pictures == 1
            else (counts >= 1).all() and (counts < pictures).all()
        )


def test_copies_in_several_classes_are_on_one_side_and_leave_each_class_some(rng):
    x, y, z = rng.integers(0, 2**64, 3, np.uint64)
    for seed in range(20):
        # x is all that the second class has, so that the first holds out its other picture
        held = record.divide(np.array([0, 0, 1]), np.array([x, y, x]), 0.1, seed)
        assert held.tolist() == [False, True, False]
        for labels, identities in (
            ([0, 0, 1, 1, 2, 2], [x, y, x, z, y, z]),
            ([0, 0, 1, 1], [x, y, x, y]),
            (np.repeat(np.arange(6), 3), rng.choice(rng.integers(0, 2**64, 7, np.uint64), 18)),
        ):
            labels, identities = np.array(labels), np.array(identities, np.uint64)
            held = record.divide(labels, identities, 0.1, seed)
            assert not np.isin(identities[held], identities[~held]).any()
            assert set(labels[~held]) == set(labels)


def test_what_a_record_knows_stays_where_it_was_and_new_ones_are_drawn(folder):
    first = datasets.open_dataset("folder", folder)
    known, held = record.of(first), names_in(first.evaluation)
    new = set(add(folder, 20))
    for path in sorted(names_in(first.train))[:3]:
        open(path, "wb").close()  # broken
    again = datasets.open_dataset("folder", folder, seen=known)
    assert (
        held == names_in(again.evaluation) - new and 0 < len(names_in(again.evaluation) & new) < 30
    )
    gone = sorted(held)[0]
    folder.joinpath(gone).unlink()
    for seed in range(3):
        there = names_in(datasets.open_dataset("folder", folder, seed=seed, seen=known).evaluation)
        assert held - {gone} == there - new


def test_where_nothing_held_out_is_left_the_advice_works(folder):
    first = datasets.open_dataset("folder", folder)
    known = record.of(first)
    for path in names_in(first.evaluation):
        folder.joinpath(path).unlink()
    with pytest.raises(UserError, match="were trained on already; add pictures, of which some"):
        datasets.open_dataset("folder", folder, seen=known)
    new = set(add(folder, 2))
    again = datasets.open_dataset("folder", folder, seen=known)
    assert names_in(again.evaluation) <= new and again.evaluation.examples >= len(CLASS_NAMES)
    assert record.check_goes_on("model", known, again).endswith("What was held out stays held out.")
    assert "; it trains on " in record.check_goes_on("model", known, again, anew=True)[-30:]


def test_the_line_on_what_is_held_out_tells_what_was_so_before(folder):
    first = datasets.open_dataset("folder", folder)
    count, known = first.evaluation.examples, record.of(first)
    assert (
        f"{count} of 36 pictures, held out before, are kept"
        in (datasets.open_dataset("folder", folder, seen=known).notes[0])
    )
    add(folder, 20)
    again = datasets.open_dataset("folder", folder, seen=known)
    drawn = again.evaluation.examples - count
    assert drawn and (
        f"{count + drawn} of 96 pictures, {count} held out before and {drawn} drawn per class with"
        " seed=0, are kept" in again.notes[0]
    )


@pytest.mark.parametrize("trained_here", [True, False])
def test_pictures_that_were_all_saved_anew_are_spoken_of(folder, tmp_path, trained_here):
    known = record.of(datasets.open_dataset("folder", folder))
    for path in folder.glob("*/*"):
        path.write_bytes(path.read_bytes() + b"a tag")
    place = folder if trained_here else folder.rename(tmp_path / "another")
    (tmp_path / "link").symlink_to(place)
    judged = datasets.open_evaluation(
        "folder", tmp_path / "link", CLASS_NAMES, [known], trained_in=[folder, None]
    )
    assert judged.evaluation.examples == 36
    assert [note for note in judged.notes if "saved again (turned, tagged" in note] == list(
        judged.notes
    )
    assert len(judged.notes) == trained_here


def test_a_picture_is_known_under_any_name_and_in_any_place(folder, tmp_path):
    first = datasets.open_dataset("folder", folder)
    elsewhere = tmp_path / "elsewhere"
    for name in CLASS_NAMES:
        (elsewhere / name).mkdir(parents=True)
        for path in (folder / name).iterdir():
            shutil.copy(path, elsewhere / name / f"moved-{path.name}")
    (tmp_path / "link").symlink_to(elsewhere)
    again = datasets.open_dataset("folder", tmp_path / "link", seed=5, seen=record.of(first))
    assert set(again.evaluation.identities) == set(first.evaluation.identities)


def test_two_networks_of_different_seeds_are_judged_by_what_both_held_out(folder):
    records = [record.of(datasets.open_dataset("folder", folder, seed=seed)) for seed in (0, 1, 2)]
    held = [set(one.held_out.tolist()) for one in records]
    for chosen in ([0], [0, 1]):
        common = set.intersection(*(held[number] for number in chosen))
        arguments = "folder", folder, CLASS_NAMES, [records[number] for number in chosen]
        if not common:
            with pytest.raises(UserError, match="all of its 36 pictures were trained on"):
                datasets.open_evaluation(*arguments)
        else:
            assert (
                set(datasets.open_evaluation(*arguments).evaluation.identities.tolist()) == common
            )


def test_evaluation_takes_all_of_a_folder_that_was_not_trained_on_and_never_what_was(
    folder, tmp_path
):
    first = datasets.open_dataset("folder", folder)
    write_pictures(tmp_path / "other", 2, first=50)
    other = datasets.open_evaluation("folder", tmp_path / "other", CLASS_NAMES, [record.of(first)])
    assert (other.evaluation.examples, other.notes) == (6, ())
    new = add(folder, 3)
    judged = datasets.open_evaluation("folder", folder, CLASS_NAMES, [record.of(first)])
    assert names_in(judged.evaluation) == names_in(first.evaluation) | set(new)
    assert (
        f"{first.train.examples} of its 45 pictures were trained on and are left out; "
        f"{first.evaluation.examples} that were held "
        "out and 9 that are new are evaluated" in judged.notes[0]
    )
    for path in names_in(judged.evaluation):
        folder.joinpath(path).unlink()
    with pytest.raises(
        UserError,
        match=(
            f"all of its {first.train.examples} pictures were trained on; pass pictures that "
            "were not"
        ),
    ):
        datasets.open_evaluation("folder", folder, CLASS_NAMES, [record.of(first)])


def test_a_class_without_evaluation_pictures_is_named(folder):
    for path in sorted((folder / CLASS_NAMES[1]).iterdir())[1:]:
        path.unlink()
    dataset = datasets.open_dataset("folder", folder)
    assert f"Not evaluated, for lack of pictures in held out: {CLASS_NAMES[1]}." in dataset.notes
    assert CLASS_NAMES[1] not in {
        CLASS_NAMES[int(one["label"])] for one in dataset.evaluation.read(None)
    }


def test_with_train_and_test_a_tenth_of_train_chooses_where_anything_is_chosen(picture_folder):
    plain, choosing = (
        datasets.open_dataset("folder", picture_folder, choosing=choosing)
        for choosing in (False, True)
    )
    assert plain.evaluation is plain.test and (plain.train.examples, plain.test.examples) == (24, 9)
    assert (
        choosing.train.examples + choosing.evaluation.examples == 24 and choosing.test.examples == 9
    )
    assert names_in(choosing.evaluation) | names_in(choosing.train) == names_in(plain.train)
    assert choosing.roles() == {
        "train": choosing.train,
        "validation": choosing.evaluation,
        "test": choosing.test,
    }
    # What was held out once stays so when nothing is chosen any more.
    again = datasets.open_dataset(
        "folder", picture_folder, choosing=False, seen=record.of(choosing)
    )
    assert names_in(again.evaluation) == names_in(choosing.evaluation)
    with pytest.raises(
        UserError, match="all its pictures were trained on already; pass patience=0"
    ):
        datasets.open_dataset("folder", picture_folder, choosing=True, seen=record.of(plain))
    notes = datasets.open_evaluation("folder", picture_folder, CLASS_NAMES, [record.of(plain)])
    assert names_in(notes.evaluation) == names_in(plain.test)


def test_tfds_is_known_by_place_and_its_tail_is_never_trained_on(tmp_path):
    dataset = datasets.open_dataset("tiny_pictures", tmp_path)
    known = record.of(dataset)
    assert (len(known.trained), len(known.held_out)) == (45, 5) and not np.intersect1d(
        known.trained, known.held_out
    ).size
    again = datasets.open_evaluation("tiny_pictures", tmp_path, ("even", "odd"), [known])
    assert (
        again.evaluation.identities.tolist() == dataset.evaluation.identities.tolist()
        and "its last 5 pictures" in again.notes[0]
    )
    whole = datasets.open_evaluation("tiny_pictures", tmp_path, ("even", "odd"), [record.Record()])
    assert whole.evaluation.examples == 50 and whole.notes == ()
    # as one of another version has, which has seen the same pictures at other places
    strange = record.Record(known.trained + np.uint64(1000))
    told = datasets.open_evaluation("tiny_pictures", tmp_path, ("even", "odd"), [strange]).notes
    assert told == (
        "tiny_pictures has no validation or test split: all 50 pictures of train in"
        " tiny_pictures/1.0.0 are evaluated; none is known to have been trained on, but"
        " pictures of another version cannot be recognised.",
    )
    images = [
        {int(tf.io.decode_jpeg(one["image"])[0, 0, 0]) for one in split.read(None)}
        for split in (dataset.evaluation, again.evaluation, whole.evaluation)
    ]
    assert images[0] == images[1] < images[2] and len(images[2]) == 50


def _stored(folder, place):
    store.write(datasets.open_dataset("folder", folder), place / "1.0.0", 95)
    return place


@pytest.mark.long
def test_a_tenth_that_was_trained_on_does_not_choose_and_the_advice_works(picture_folder, tmp_path):
    place = _stored(picture_folder, tmp_path / "store")
    plain = datasets.open_dataset("folder", place)
    known = record.of(plain)
    for anew in (False, True):
        with pytest.raises(
            held_out.AllSeenError,
            match="^folder has no validation split, and 2 of the last 2 pictures of train, which"
            " would be held out, were trained on already; pass patience=0, a schedule= other than"
            " plateau and no callback that may choose, so that nothing is chosen on them, or pass"
            " a validation_split= of others[.]$",
        ):
            datasets.open_dataset("folder", place, choosing=True, seen=known, anew=anew)
    again = datasets.open_dataset("folder", place, seen=known)
    assert record.check_goes_on("model", known, again) is None and again.evaluation is again.test
    others = SplitNames(validation="test[:50%]", test="test[50%:]")
    again = datasets.open_dataset("folder", place, names=others, choosing=True, seen=known)
    assert record.check_goes_on("model", known, again) is None and again.train.examples == 24
    # one of the two, where a projection is trained anew on layers that have seen it, may choose
    seen = record.Record(known.trained[known.trained != plain.train.identities[-1]])
    again = datasets.open_dataset("folder", place, choosing=True, seen=seen, anew=True)
    assert again.evaluation.examples == 2
    with pytest.raises(held_out.AllSeenError, match="and 1 of the last 2 pictures of train"):
        datasets.open_dataset("folder", place, choosing=True, seen=seen)


def test_what_tfds_held_out_stays_held_out_wherever_it_lies(tmp_path):
    def opened(train, choosing=False, seen=None, anew=False):
        names = SplitNames(train=train, test="test")
        return datasets.open_dataset(
            "tiny_halves", tmp_path, names=names, choosing=choosing, seen=seen, anew=anew
        )

    first = opened("train[:20]", choosing=True)
    known = record.of(first)
    assert (first.train.examples, first.evaluation.examples) == (18, 2)
    for choosing in (True, False):  # with more behind it
        again = opened("train", choosing, known)
        assert (again.train.examples, again.evaluation.examples) == (18, 22)
        told = "tiny_halves has no validation split: all of train after its first 18 pictures"
        assert told in again.notes[0]
        assert record.check_goes_on("model", known, again).endswith("stays held out.")
    assert opened("train", True, known, anew=True).train.examples == 36
    # between pictures that were trained on it cannot be kept apart
    more = known | record.Record(again.evaluation.known()[5:9])
    with pytest.raises(
        UserError,
        match="and 2 pictures of train that are not its last were held out from this training; pass"
        " the data that it began with, or another model_dir= to start over",
    ):
        opened("train", True, more)


def test_a_store_knows_the_pictures_that_it_was_made_of(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_PICTURES", 7)
    (folder / CLASS_NAMES[0] / "cut.jpg").write_bytes(
        b"\xff\xd8\xff and nothing \xff\xd9"
    )  # is left out while it is stored
    originals = datasets.open_dataset("folder", folder)
    store.write(originals, tmp_path / "store/1.0.0", 95, max_bad_pictures=1)
    stored = datasets.open_dataset("folder", tmp_path / "store")
    assert set(originals.evaluation.identities) >= set(stored.evaluation.identities)
    assert len(set(originals.train.identities) - set(stored.train.identities)) <= 1
    # In the order of the records: the same picture, but for the compression.
    by_identity = {
        int(originals.train.identities[int(one["picture"])]): one
        for one in originals.train.read(None)
    }
    for one in stored.train.read(None):
        original = by_identity[int(stored.train.identities[int(one["picture"])])]
        assert int(one["label"]) == int(original["label"])
    judged = datasets.open_evaluation("folder", folder, CLASS_NAMES, [record.of(stored)])
    assert set(judged.evaluation.identities) - set(originals.train.identities) == set(
        stored.evaluation.identities
    )
    (tmp_path / "store/1.0.0" / prepared.IDENTITIES).write_bytes(b"")
    with pytest.raises(UserError, match="identities.npz does not hold a number for each picture"):
        datasets.open_dataset("folder", tmp_path / "store")


# A training that goes on
# ----------------------------------------------------------------------------------------------


def changed(folder, known, **arguments):
    return record.check_goes_on(
        "model", known, datasets.open_dataset("folder", folder, seen=known, **arguments)
    )


def test_what_changed_is_told_by_count_and_contradictions_are_refused(picture_folder, tmp_path):
    known = record.of(datasets.open_dataset("folder", picture_folder))
    assert changed(picture_folder, known) is None
    victim = picture_folder / "train" / CLASS_NAMES[0] / "1.jpg"
    victim.unlink()
    add(picture_folder / "train", 1)
    assert "1 of its 33 pictures are gone and 3 are new; it trains on 26." in changed(
        picture_folder, known
    )
    moved = picture_folder / "test" / CLASS_NAMES[0] / "moved.jpg"
    (picture_folder / "train" / CLASS_NAMES[0] / "2.jpg").rename(moved)
    with pytest.raises(
        UserError,
        match=f"1 of the pictures of test, first {moved}, are ones that this model was trained on",
    ):
        changed(picture_folder, known)
    write_pictures(tmp_path / "others", 4, first=60)
    with pytest.raises(
        UserError,
        match=r"trained on 24 pictures, and none of them is among the \d+ to train on now",
    ):
        changed(tmp_path / "others", known)
    with pytest.raises(
        UserError, match="has no pictures.npz, the record of the pictures that were held out"
    ):
        record.check_goes_on("model", None, datasets.open_dataset("folder", tmp_path / "others"))


@pytest.mark.long
def test_training_goes_on_after_bad_pictures_are_replaced_or_removed(run, folder, tmp_path):
    def train(*arguments, status=0):
        return run(
            *TRAIN,
            "--model_dir=model",
            "--json=figures.json",
            *arguments,
            cwd=tmp_path,
            status=status,
        )

    train("--epochs=1")
    held = set(record.read(tmp_path / "model").held_out.tolist())
    known = record.read(tmp_path / "model").trained.tolist()
    seen = [
        path
        for path in sorted(folder.glob("*/*.jpg"))
        if pictures.identity(path.read_bytes()) in known
    ]
    for path in seen[:3]:
        path.write_bytes(b"gone bad")
    line = train("--epochs=2", "--max_bad_pictures=2", status=2)
    assert "3 pictures cannot be read, more than --max_bad_pictures=2" in line
    _add(seen[0].parent, 300)
    shutil.move(seen[0].parent / "300.jpg", seen[0])  # replaced
    seen[1].unlink()
    seen[2].unlink()
    told = f"3 of its 36 pictures are gone and 1 are new; it trains on {len(known) - 2}."
    for arguments in (["--dry_run"], ["--max_bad_pictures=0"]):
        train("--epochs=2", *arguments)
        assert run.notes.count(told) == 1
    assert json.loads((tmp_path / "figures.json").read_text())["bad_pictures"] == 0
    after = record.read(tmp_path / "model")
    assert set(after.held_out.tolist()) >= held and set(after.trained.tolist()) >= set(known)
    assert "sha" not in run.notes and "fingerprint" not in run.notes


@pytest.mark.long
def test_every_reader_goes_by_the_record(run, folder, tmp_path):
    run(*TRAIN, "--epochs=1", "--model_dir=model", "--seed=3", cwd=tmp_path)
    held = len(record.read(tmp_path / "model").held_out)
    add(folder, 3)
    folder.rename(tmp_path / "renamed")
    on = ["--dataset=folder", "--data_dir=renamed", "--json=figures.json"]

    def evaluated(*arguments):
        run("-m", "alexnet_tf", "evaluate", *on, *arguments, cwd=tmp_path)
        return json.loads((tmp_path / "figures.json").read_text())

    figures = evaluated("--model_dir=model")
    assert figures["examples"] == held + 9 and figures["models"][0]["trained_on"] == 0
    # Told to take the training pictures, it says so.
    (tmp_path / "split/train").parent.mkdir()
    shutil.copytree(tmp_path / "renamed", tmp_path / "split/train")
    on[1] = "--data_dir=split"
    figures = evaluated("--model_dir=model", "--test_split=train")
    assert figures["examples"] == 45 and figures["models"][0]["trained_on"] == 36 - held
    assert f"was trained on {36 - held} of these 45 pictures" in run.notes
    # What was made of the network knows it too.
    run("-m", "alexnet_tf", "export", "--model_dir=model", "--output=saved", cwd=tmp_path)
    run(
        "-m",
        "alexnet_tf",
        "convert",
        "--saved_model=saved/1",
        "--output=m.tflite",
        "--dataset=folder",
        "--data_dir=renamed",
        cwd=tmp_path,
    )
    known = record.read(tmp_path / "model").trained.tolist()
    for path in (tmp_path / "split/train").glob("*/*"):
        if pictures.identity(path.read_bytes()) not in known:
            path.unlink()
    run(
        "-m",
        "alexnet_tf",
        "convert",
        "--saved_model=saved/1",
        "--output=seen.tflite",
        "--data_dir=split/train",
        "--json=figures.json",
        cwd=tmp_path,
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["pictures compared"] == 36 - held and "not checked" in figures["accuracy"]
    on[1] = "--data_dir=renamed"
    assert evaluated("--models=saved,m.tflite")["examples"] == held + 9
    # So does what it is fine-tuned to, and the figures of pictures.
    run(
        "-m",
        "alexnet_tf",
        "finetune",
        "--pretrained=model",
        "--model_dir=tuned",
        "--epochs=1",
        *on[:2],
        cwd=tmp_path,
    )
    tuned = record.read(tmp_path / "tuned")
    assert not np.setdiff1d(record.read(tmp_path / "model").trained, tuned.trained).size
    assert not np.intersect1d(tuned.held_out, tuned.trained).size
    run(
        "-m",
        "alexnet_tf",
        "visualize",
        "--figure=confusions",
        "--model_dir=model",
        "renamed",
        cwd=tmp_path,
    )
    assert f"The network was trained on {36 - held} of these 45 pictures" in run.notes


@pytest.mark.long
def test_a_network_without_a_record_is_judged_by_all_and_says_so(run, folder, tmp_path):
    write_lenet5(tmp_path / "model", list(CLASS_NAMES))
    settings = json.loads((tmp_path / "model/settings.json").read_text())
    settings["flags"] = {"dataset": "folder", "data_dir": str(folder), "seed": 0}
    (tmp_path / "model/settings.json").write_text(json.dumps(settings))
    run("-m", "alexnet_tf", "evaluate", "--model_dir=model", "--json=figures.json", cwd=tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text())["examples"] == 36
    assert (
        "model, step 7 has no record of what it was trained on: it may have seen these pictures."
        in run.notes
    )
