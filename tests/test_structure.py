"""The shape of the project: imports flow one way, the README's map is the truth, and the network's picture is drawn whole."""

import ast
import pathlib
import re

import pytest
from conftest import load_tool
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
# From the README's table, in its order.
MAP = [name for row in re.findall(r"^\| (`alexnet_tf/.*?) \|", (ROOT / "README.md").read_text(), re.M)
       for name in re.findall(r"(\w+)\.py", row)]


def imported(path):
    """Names of the package's modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "alexnet_tf":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alexnet_tf."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("alexnet_tf.")}
    return names


def test_the_map_in_the_readme_is_complete():
    assert set(MAP) == {path.stem for path in (ROOT / "alexnet_tf").glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("name", MAP)
def test_a_file_imports_only_files_above_it(name):
    assert imported(ROOT / f"alexnet_tf/{name}.py") <= set(MAP[:MAP.index(name)])


def test_tools_do_not_import_each_other():
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    for path in (ROOT / "tools").glob("*.py"):
        source = path.read_text()
        assert not [tool for tool in tools if re.search(rf"^(from|import) (tools\.)?{tool}\b", source, re.M)]


@pytest.fixture(scope="module")
def describe():
    return load_tool("describe")


def test_table_adds_up(describe):
    from alexnet_tf.model import build_model

    lines = describe.table(build_model("paper"))
    # conv1 to conv5 and fc6 to fc8 by hand: outputs times kernel_size^2 times inputs of one tower.
    conv = 2 * (55 * 55 * 48 * 363 + 27 * 27 * 128 * 25 * 48 + 169 * 192 * 9 * 256 + 169 * 192 * 9 * 192 + 169 * 128 * 9 * 192)
    total = conv + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    assert total == 724_406_816
    assert lines[-1].split()[:3] == ["total", "60,965,224", f"{total:,}"]
    assert [line.split()[0] for line in lines[2:]] == [
        "conv1", "lrn1", "pool1", "conv2", "lrn2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8", "total"]


def test_pictures_are_drawn_and_no_text_leaves_them(describe, tmp_path):
    from alexnet_tf.model import build_model

    paper, lenet = build_model("paper"), build_model("lenet5")
    for image in (describe.draw_network(paper), describe.draw_comparison([lenet, paper])):
        white = Image.new("RGB", image.size, "white")
        left, top, right, bottom = Image.composite(white, image, image.convert("L").point(lambda v: 255 * (v > 250))).convert(
            "L").point(lambda v: 255 * (v < 250)).getbbox()
        assert left > 10 and top > 10 and right < image.width - 10 and bottom < image.height - 4
        assert (right - left) * (bottom - top) > 0.6 * image.width * image.height
