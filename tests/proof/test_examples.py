"""The programs of examples/ that cannot be built here at least parse, by tree-sitter's grammars.

What was not run says so: Android's and Apple's tools, Go, and the libraries of gRPC for Java are
not at hand. C++ and JavaScript are run by make test.
"""

import pathlib
import shutil
import subprocess

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
_GRAMMARS = {".kt": "kotlin", ".kts": "kotlin", ".swift": "swift", ".go": "go", ".java": "java"}
FILES = sorted(
    path
    for path in EXAMPLES.rglob("*")
    if path.suffix in _GRAMMARS and "node_modules" not in path.parts
)

# The places of what the grammar does not understand, and how many functions it found.
_PARSE = """
import importlib, tree_sitter
grammar = importlib.import_module("tree_sitter_{grammar}")
parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
tree = parser.parse(open({path!r}, "rb").read())
nodes, wrong, kinds = [tree.root_node], [], []
while nodes:
    node = nodes.pop()
    nodes += node.children
    kinds.append(node.type)
    if node.is_error or node.is_missing:
        wrong.append(node.start_point[0] + 1)
answer["wrong"], answer["nodes"] = np.array(wrong), np.array(len(kinds))
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_it_parses(path, witness):
    answer = witness(_PARSE.format(grammar=_GRAMMARS[path.suffix], path=str(path)))
    assert answer["wrong"].size == 0, f"lines {answer['wrong']}"
    assert answer["nodes"] > 50
    print(f"\n{path.relative_to(EXAMPLES)}: {answer['nodes']} nodes, all understood; not run")


def test_a_mistake_does_not_parse(tmp_path, witness):
    for path in FILES:
        text = path.read_text()
        broken = tmp_path / path.name
        broken.write_text(text[: text.rindex("}")] + "){")
        answer = witness(_PARSE.format(grammar=_GRAMMARS[path.suffix], path=str(broken)))
        assert answer["wrong"].size, path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not run: there is no systemd")
def test_the_unit_is_one():
    unit = EXAMPLES / "raspberry_pi/alexnet.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "alexnet" in line]
    # the program is on the device, not here
    assert [line for line in ours if "is not executable" not in line] == []
