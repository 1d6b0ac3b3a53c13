"""The shape of the project: imports flow one way, docs/architecture.md has the truth, and the
network's picture is drawn whole.
"""

import ast
import json
import math
import pathlib
import re

import pytest
from PIL import Image

import alexnet_tf
from alexnet_tf.figures import blocks

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "alexnet_tf"
# The floors of the house, the lowest first: a folder imports only what lies below it. Files that
# lie in alexnet_tf itself are floors of their own, or share one where they stand in one line.
FLOORS = [
    ["errors", "pixels"],
    [
        "disk",
        "console",
        "archives",
        "bounds",
        "distribution",
        "picture_headers",
        "provenance",
        "proxies",
    ],
    ["picture_files"],
    ["decoding"],
    ["preprocessing"],
    ["classifiers"],
    ["edge"],
    ["network"],
    ["settings"],
    ["manifest"],
    ["weights"],
    ["data"],
    ["training", "exports"],
    ["networks", "pretrained"],
    ["jobs", "figures", "applications"],
    ["serving", "experiments"],
    ["commands"],
    ["__main__"],
    ["train", "finetune", "evaluate", "export", "data_service"],
]  # launchers


def floor_of(name):
    return next(index for index, names in enumerate(FLOORS) if name in names)


def imports(path):
    """The parts of the package (folders, or files that lie in it) that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "alexnet_tf":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alexnet_tf."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("alexnet_tf.")
            }
    return names


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_part_has_a_floor_and_every_floor_is_there():
    assert {part(path) for path in FILES} == {name for names in FLOORS for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward_only(path):
    own = part(path)
    upward = [name for name in imports(path) - {own} if floor_of(name) >= floor_of(own)]
    assert not upward, f"{path} on floor {floor_of(own)} imports {upward}"


def top_imports(path):
    """Names of modules that a file imports as it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure(name):
    """Every module that comes in with `name`, those of the package and the names of others."""
    found, left = set(), [name]
    while left:
        one = left.pop()
        if one in found:
            continue
        found.add(one)
        within = ROOT.joinpath(*one.split("."))
        for path in (within.with_suffix(".py"), within / "__init__.py"):
            if one.startswith("alexnet_tf") and path.exists():
                left += top_imports(path)
    return found


@pytest.mark.parametrize("name", ["applications", "network.model", "network.layers", "settings"])
def test_a_model_is_built_and_its_weights_read_without_tensorflow(name):
    """As on the JAX and PyTorch backends of Keras, where it is not installed."""
    modules = closure(f"alexnet_tf.{name}")
    assert "keras" in modules or name == "settings"
    others = "tensorflow", "ai_edge_litert"
    assert not [one for one in modules if one.split(".")[0].startswith(others)], modules


EXAMPLES = sorted(
    path for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".ipynb")
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_import_what_is_there(path):
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        text = re.sub(r"^[!%](.*\\\n)*.*$", "", text, flags=re.M)  # commands of a shell
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alexnet_tf"):
            exec(ast.unparse(node), {})  # ImportError where a name is not there
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "alexnet_tf":
            assert hasattr(alexnet_tf, node.attr), f"alexnet_tf.{node.attr}"


NOTEBOOKS = [path for path in EXAMPLES if path.suffix == ".ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_command_that_fails_ends_a_notebook(path):
    """It would go on with what an earlier run has left, and say nothing."""
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        assert "/dev/null" not in text
        if commands := re.findall(r"^!(?:.*\\\n)*.*$", text, re.M):
            assert 'if get_ipython().user_ns["_exit_code"]:\n    raise' in text
            assert {*re.findall(r"\{.*?\}", "".join(commands))} <= {
                "{alexnet}",
                "{folder}",
            }  # quoted


def test_the_page_of_the_architecture_has_every_file_and_every_floor():
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(
        re.findall(
            r"`([\w/]+(?:\.py|/))`", page.split("| file in `alexnet_tf/`")[1].split("\n\n")[0]
        )
    )
    files = {str(path.relative_to(PACKAGE)) for path in FILES if path.name != "__init__.py"}
    folders = {name for name in named if name.endswith("/")}
    assert {name for name in files if not name.startswith(tuple(folders))} == named - folders
    drawn = page.split("```text")[1].split("```")[0]
    at = [
        min(drawn.index(f" {name}{end}") for end in (".py", "/") if f" {name}{end}" in drawn)
        for names in reversed(FLOORS[:-1])
        for name in names[:1]
    ]
    assert at == sorted(at)  # the highest floor first
    assert all(re.search(rf" {name}(\.py|/)", drawn) for names in FLOORS[:-1] for name in names)


def modules_of(folder):
    return {path.stem: path for path in (PACKAGE / folder).glob("*.py")}


@pytest.mark.parametrize(
    "folder",
    [
        "edge",
        "network",
        "weights",
        "data",
        "training",
        "exports",
        "serving",
        "figures",
        "experiments",
    ],
)
def test_no_folder_imports_itself_in_a_circle(folder):
    modules = modules_of(folder)
    above = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == f"alexnet_tf.{folder}":
                above[name] |= {alias.name for alias in node.names} & set(modules)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                f"alexnet_tf.{folder}."
            ):
                above[name].add(node.module.split(".")[2])
    while free := [name for name, needs in above.items() if not needs]:
        for name in free:
            del above[name]
        for needs in above.values():
            needs -= set(free)
    assert not above, f"these import each other: {above}"


def test_no_command_imports_another():
    commands = set(modules_of("commands")) - {"app"}
    for path in modules_of("commands").values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "alexnet_tf.commands":
                assert not {alias.name for alias in node.names} & commands, path


def test_table_adds_up():
    from alexnet_tf.network.model import build_model

    lines = blocks.table(build_model("paper"))
    # conv1 to conv5 and fc6 to fc8 by hand: outputs times kernel_size^2 times inputs of one tower.
    conv = 2 * (
        55 * 55 * 48 * 363
        + 27 * 27 * 128 * 25 * 48
        + 169 * 192 * 9 * 256
        + 169 * 192 * 9 * 192
        + 169 * 128 * 9 * 192
    )
    total = conv + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    assert total == 724_406_816
    assert lines[-1].split()[:3] == ["total", "60,965,224", f"{total:,}"]
    assert [line.split()[0] for line in lines[2:]] == [
        "conv1",
        "lrn1",
        "pool1",
        "conv2",
        "lrn2",
        "pool2",
        "conv3",
        "conv4",
        "conv5",
        "pool5",
        "fc6",
        "fc7",
        "fc8",
        "total",
    ]


def test_pictures_are_drawn_and_no_text_leaves_them():
    from alexnet_tf.network.model import build_model

    paper, lenet = build_model("paper"), build_model("lenet5")
    for image in (blocks.draw_network(paper), blocks.draw_comparison(lenet, paper)):
        white = Image.new("RGB", image.size, "white")
        left, top, right, bottom = (
            Image.composite(white, image, image.convert("L").point(lambda v: 255 * (v > 250)))
            .convert("L")
            .point(lambda v: 255 * (v < 250))
            .getbbox()
        )
        assert left > 10 and top > 10 and right < image.width - 10 and bottom < image.height - 4
        assert (right - left) * (bottom - top) > 0.6 * image.width * image.height


@pytest.mark.parametrize(
    "variant,expected",
    [
        ("half", {"conv1": ["ReLU", "LRN"], "pool1": [], "fc6": ["ReLU", "dropout 0.5"]}),
        ("paper", {"conv1": ["ReLU", "LRN"], "conv2": ["ReLU", "LRN"], "conv5": ["ReLU"]}),
        (
            "source2012",
            {"conv1": ["LRN"], "pool1": ["ReLU"], "conv2": ["ReLU", "LRN", "spatial norm"]},
        ),
        ("caffe", {"conv1": ["ReLU", "LRN"], "conv3": ["ReLU"], "fc8": []}),
        ("caffenet", {"conv1": [], "pool1": ["ReLU", "LRN"], "fc7": ["ReLU", "dropout 0.5"]}),
        ("one_weird_trick", {"pool5": ["dropout 0.5"], "fc6": ["ReLU", "dropout 0.5"]}),
        ("lenet5", {"images": [], "conv1": ["tanh"], "pool1": [], "fc5": []}),
    ],
)
def test_what_is_between_the_layers_stands_where_it_is(variant, expected):
    from alexnet_tf.network.model import VARIANTS, build_model

    size = None if variant == "lenet5" else VARIANTS[variant]["image_size"] % 4 + 64
    then = {stage.name: stage.then for stage in blocks.stages(build_model(variant, 3, size))}
    assert {name: then[name] for name in expected} == expected


def test_boxes_of_one_tower_carry_their_numbers_and_bars_their_colours(monkeypatch):
    from alexnet_tf.network.model import build_model

    written, drawn = [], []
    text, box = blocks._Canvas.text, blocks._Canvas.box
    monkeypatch.setattr(
        blocks._Canvas, "text", lambda *args, **more: written.append(args[3]) or text(*args, **more)
    )
    monkeypatch.setattr(blocks._Canvas, "box", lambda *args: drawn.append(args[5]) or box(*args))
    blocks.draw_network(build_model("half", 3, 67))
    assert [one for one in written if one.isdecimal()][:9] == ["67", "15", "7", "7", *"33331"]
    colours = [blocks._BETWEEN[name][0] for name in ("ReLU", "LRN", "dropout")]
    assert [drawn.count(colour) for colour in colours] == [7 + 1, 2 + 1, 2 + 1]  # and the legend
    assert {"ReLU", "local response normalisation", "dropout"} <= set(written)


def test_programs_in_other_languages_have_the_same_numbers_and_words():
    from alexnet_tf.classifiers import NONE
    from alexnet_tf.figures import looking
    from alexnet_tf.pixels import LUMA
    from alexnet_tf.training import head, regression

    def numbers(file):
        text = (ROOT / "examples/browser" / file).read_text()
        stated = re.findall(r"(?:const|,) ([A-Z_]+) = (\[[^]]*\]|Math\.log\(\d+\)|[\d.e-]+)", text)
        return {
            name: math.log(float(value[9:-1])) if "log" in value else json.loads(value)
            for name, value in stated
        }

    ours = {
        name.strip("_"): value
        for module in (head, regression)
        for name, value in vars(module).items()
    }
    of_head = {name: ours[name] for name in numbers("head.js")}
    assert len(of_head) == 7
    assert {
        name: list(value) if name == "DECAYS" else value for name, value in of_head.items()
    } == (numbers("head.js"))
    found = numbers("looking.js")
    expected = {"SQUARES": looking._SQUARES, "STEPS": looking._STEPS, "LITTLE": looking._LITTLE}
    assert {name: found[name] for name in expected} == expected
    programs = {
        path: path.read_text()
        for kind in ("js", "cc", "kt", "swift")
        for path in (ROOT / "examples").rglob(f"*.{kind}")
        if "node_modules" not in path.parts
    }
    assert sum(NONE in text for text in programs.values()) == 4
    with_luma = [text for text in programs.values() if str(LUMA[1]) in text]
    assert len(with_luma) >= 2
    assert all(str(share) in text for text in with_luma for share in LUMA)
