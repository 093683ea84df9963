"""JSON is checked in several threads at once."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.files import ROOT

FIRST_USES = """
import sys, threading, types
import msgspec
from adapterkit.io.schema import check, decoded

sys.setswitchinterval(1e-6)
SOURCE = '''
import msgspec
class Leaf(msgspec.Struct):
    size: "int" = 0
class Twig(msgspec.Struct):
    leaves: "list[Leaf]" = []
class Tree(msgspec.Struct):
    twigs: "dict[str, Twig]" = {}
'''
for _ in range(30):
    module = sys.modules["tree"] = types.ModuleType("tree")
    exec(SOURCE, vars(module))
    barrier, sizes = threading.Barrier(6), []

    def first_use():
        barrier.wait()
        check({"twigs": {"a": {"leaves": [{"size": 3}]}}}, module.Tree)
        sizes.append(decoded(b'{"twigs": {"a": {"leaves": [{"size": 4}]}}}', module.Tree).twigs["a"].leaves[0].size)

    threads = [threading.Thread(target=first_use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [4] * 6
"""


def test_a_type_is_first_used_by_several_threads() -> None:
    """msgspec alone ends the process here: its description of the type is read before it is complete."""
    done = subprocess.run([sys.executable, "-c", FIRST_USES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
