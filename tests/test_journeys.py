"""What a reader meets: every command and every program of the pages runs, from the page's own text,
and leaves what it says.
"""

import importlib.util
import pathlib
import re
import shlex
import shutil

import journeys
import pytest

from alexnet_tf.data import shapes

ROOT = pathlib.Path(__file__).parent.parent
PAGES, BLOCKS = list(journeys.BLOCKS), journeys.BLOCKS
RUN = {
    page: [
        block
        for block in blocks
        if block.language != "text" and not block.not_run and not block.in_proof
    ]
    for page, blocks in BLOCKS.items()
}


@pytest.fixture(scope="session")
def start(run, tmp_path_factory):
    """What a reader has before the first page: pictures in class folders, and what `make run`
    leaves, smaller.
    """
    world = tmp_path_factory.mktemp("start")
    flowers = {"daisy": 0, "iris": 6}
    journeys.draw(world / "pictures/train", flowers, range(1, 17, 2))
    journeys.draw(world / "pictures/test", flowers, range(2, 10, 2))
    shutil.copy(world / "pictures/test/daisy/2.jpg", world / "flower.jpg")
    activate = world / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH={run.programs.folder}:$PATH\n")

    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "tools/quickstart.py")
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    journeys.draw(
        world / "shapes/train",
        {name: number for number, name in enumerate(shapes.CLASS_NAMES)},
        [0, 1],
    )
    journeys.draw(
        world / "shapes/test", {name: number for number, name in enumerate(shapes.CLASS_NAMES)}, [2]
    )
    recipe = journeys.with_flags(
        f"alexnet train --dataset=folder --data_dir=shapes {shlex.join(quickstart._RECIPE)}",
        ("--image_size=67", "--epochs=1", "--batch_size=10"),
    )
    with journeys.Journey(world, run.programs.folder) as journey:
        journey.shell(recipe, "the training of make run, smaller")
    return world


@pytest.fixture(scope="session")
def after_readme(run, start, tmp_path_factory):
    """The folder of a reader who has followed README.md."""
    world = tmp_path_factory.mktemp("reader") / "world"
    shutil.copytree(start, world)
    with journeys.Journey(world, run.programs.folder) as journey:
        for block in BLOCKS["README.md"]:
            journey.run(block)
        assert journey.ran == len(RUN["README.md"]) > 1
    # What `make run` would have left besides.
    shutil.copytree(world / "saved_models/mine", world / "saved_models/alexnet")
    return world


def test_readme(after_readme):
    assert (after_readme / "mine.tflite").stat().st_size > 10**6
    assert list(after_readme.glob("models/tuned/checkpoints/*/weights.npz"))


# The proofs run these pages: README.md goes through their main commands.
_LONG = {
    "docs/looking.md",
    "docs/evaluation.md",
    "docs/data.md",
    "docs/python.md",
    "docs/exports.md",
    "docs/finetuning.md",
    "docs/edge.md",
    "docs/serving.md",
    "docs/troubleshooting.md",
    "docs/variants.md",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.long if page in _LONG else ())
        for page in PAGES
        if RUN[page] and page != "README.md"
    ],
)
def test_page(run, after_readme, tmp_path, page):
    world = tmp_path / "world"
    shutil.copytree(after_readme, world)
    with journeys.Journey(world, run.programs.folder) as journey:
        for block in BLOCKS[page]:
            journey.run(block)
        assert journey.ran == len(RUN[page])


def test_every_block_is_run_or_says_why_not():
    for page, blocks in BLOCKS.items():
        for block in blocks:
            if block.language == "text":
                assert not re.search(
                    r"^\s*(\$ |alexnet |python |make |pip |npm |curl )", block.text, re.M
                ), block
            elif block.not_run or block.in_proof:
                assert len(block.not_run or block.in_proof) > 10, f"{block}: why?"
            else:
                assert block in RUN[page]


def test_a_model_directory_of_the_pages_has_one_beginning():
    """Whoever reads one page after another would else be refused: it holds another model."""
    begun = {}
    for block in (block for blocks in BLOCKS.values() for block in blocks):
        for name, arguments in journeys.commands(block.text) if block.language == "sh" else ():
            given = journeys.flags_in(arguments)
            if name in ("train", "finetune") and "model_dir" in given:
                start = name, given.get("variant"), given.get("pretrained")
                assert begun.setdefault(given["model_dir"], start) == start, block
    assert begun["models/tuned"] == ("finetune", None, "imagenet")


def test_the_pages_name_every_command_and_no_other():
    from alexnet_tf.__main__ import COMMANDS

    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    assert set(re.findall(r"`alexnet ([a-z][a-z-]*)", text)) == set(COMMANDS)


def anchors(page):
    """What a link may name in a page: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*/*.md"))],
)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        if not re.match(r"\w+://", link):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


# The runner itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,message",
    [
        ("<!-- journey: perhaps -->\n```sh\nls\n```\n", "'perhaps' is not understood"),
        (
            "<!-- journey: with --variant=half -->\n```sh\nalexnet train\n```\n",
            "variant would change what the page does",
        ),
        ("<!-- journey: not run: no reason -->\nwords\n", "stands before no block"),
        ("```bash\nls\n```\n", "```bash is none of sh, python, js, text"),
        ("```sh\nls\n", "does not end"),
        ("words\n\n    alexnet train\n", "blocks are fenced"),
    ],
)
def test_what_the_runner_does_not_understand_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        journeys.blocks("page.md", text)


@pytest.mark.parametrize(
    "text,message",
    [
        (
            "```sh\nalexnet describe --variant=vgg\nalexnet describe --variant=lenet5\n```",
            "ended with status 2",
        ),
        ("```sh\nalexnet describe --variant=vgg | cat\n```", "ended with status 2"),
        ("```python\nimport sys\nsys.exit(3)\n```", "ended with status 3"),
        (
            "<!-- journey: leaves figure.png -->\n```sh\nalexnet describe --variant=lenet5\n```",
            "there is no figure.png",
        ),
        ("<!-- journey: first: false -->\n```sh\ntrue\n```", "ended with status 1"),
        ("<!-- journey: instead of 5 6 -->\n```sh\ntrue\n```", "'5' is not in the block"),
    ],
)
def test_a_block_that_does_not_do_what_it_says_fails(run, tmp_path, text, message):
    (block,) = journeys.blocks("page.md", text)
    with (
        journeys.Journey(tmp_path, run.programs.folder) as journey,
        pytest.raises(AssertionError, match=re.escape(message)),
    ):
        journey.run(block)


def test_flags_are_replaced_in_the_commands_that_have_them():
    text = (
        "TF_CONFIG='{a b}' alexnet train --epochs=30 \\\n  --batch_size=32 # all\nalexnet evaluate"
        " --model_dir=models/mine\n"
    )
    assert (
        journeys.with_flags(text, ("--epochs=1",))
        == "TF_CONFIG='{a b}' alexnet train --batch_size=32 --epochs=1 # all\nalexnet evaluate"
        " --model_dir=models/mine\n"
    )
    with pytest.raises(ValueError, match="no command of the block knows"):
        journeys.with_flags("alexnet classify flower.jpg", ("--epochs=1",))


def test_what_commands_write_is_read_from_their_flags():
    assert journeys.written(
        "alexnet train --model_dir=a \\\n --json=b.json\nalexnet evaluate --model_dir=c\n"
        "alexnet visualize --features=f.npz p/test # --json=no\n"
    ) == ["b.json", "a", "f.npz"]
