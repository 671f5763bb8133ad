"""What is compiled for this machine is what torch's operations are, and nothing fails where there is no compiler."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
import torch

from ppodd.errors import BadInput
from ppodd.machine import instructions
from ppodd.training import compiled
from ppodd.training.blocks import Block, CompiledBlocks, TorchBlocks, blocks
from ppodd.training.classifier import CompiledClassifier, TorchClassifier
from ppodd.training.convolution import CompiledTiles, Direct, FewChannels, SmallMaps, Winograd
from ppodd.training.optimisers import State, adam, adam_cotangents

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(isinstance(compiled._compiled(torch.float64), str), reason="no C compiler")


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    compiled.choose_compiled("auto")


def both(kind, shape, dtype=torch.float64):
    """All that a block gives, forward and backward, and along a direction."""
    random = torch.Generator().manual_seed(0)

    def draw(*size):
        drawn = torch.randn(size, generator=random, dtype=dtype)
        return drawn.contiguous(memory_format=torch.channels_last) if len(size) == 4 else drawn

    count, channels, height, width = shape
    scale, shift = draw(2, channels), draw(2, channels)
    block = Block([], scale[[0, 1, 0]], shift[[0, 1, 0]])
    pooled, kept = kind.forward(draw(*shape), scale[1], shift[1], 1e-5)
    found = [pooled, *kind.backward(draw(count, channels, height // 2, width // 2), kept, scale[1], shift[1])]
    pooled, kept = kind.forward_along(draw(2 * count, channels, height, width), block, 1e-5)
    found += [pooled, *kind.backward_along(draw(2 * count, channels, height // 2, width // 2), kept, block)]
    return found


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 16, 8, 8), (2, 40, 7, 9), (2, 1, 6, 6), (5, 64, 3, 2), (1, 3, 2, 3)], ids=str)
def test_compiled_blocks_are_those_of_torch(shape):
    for name, eps in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        ours, theirs = both(CompiledBlocks(compiled.functions(name)), shape, name), both(TorchBlocks(), shape, name)
        for mine, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, expected, rtol=eps, atol=eps * 100)


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(both(CompiledBlocks(compiled.functions(torch.float32)), (7, 48, 8, 8), torch.float32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(mine, other) for some in found[1:] for mine, other in zip(some, found[0], strict=True))


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A machine whose only C compiler is the given command, if any, and whose cache is empty."""

    def only(command):
        monkeypatch.setenv("PPODD_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("CC", command)
        compiled._compiled.cache_clear()

    yield only
    monkeypatch.undo()
    compiled._compiled.cache_clear()


@pytest.mark.parametrize(
    ("command", "why"),
    [("", "no C compiler"), ("/bin/false", "/bin/false makes nothing that runs"), ("/none/cc", "/none/cc")],
)
def test_without_a_working_compiler_torch_does_it_unless_compiled_functions_are_insisted_on(compiler, command, why):
    compiler(command)
    compiled.choose_compiled("auto")
    assert isinstance(blocks(CPU, torch.float32), TorchBlocks)
    with pytest.raises(BadInput, match=f"compile=on: .*{why}.*: leave it at auto to do without$"):
        compiled.choose_compiled("on")


def test_compiled_functions_can_be_done_without():
    compiled.choose_compiled("off")
    assert isinstance(blocks(CPU, torch.float32), TorchBlocks)


@needs_compiler
def test_they_are_compiled_once_for_all_processes(compiler, tmp_path, monkeypatch):
    path = os.environ["PATH"]
    compiler("")
    monkeypatch.setenv("PATH", path)
    found = []
    for _ in range(2):
        assert compiled.functions(torch.float32)
        (made,) = tmp_path.iterdir()
        found.append(made.stat().st_mtime_ns)
        compiled._compiled.cache_clear()
    assert found[0] == found[1]


@needs_compiler
@pytest.mark.slow  # compiled anew: 5 s each
@pytest.mark.skipif(platform.machine() != "x86_64", reason="another processor's instructions")
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
def test_processors_of_narrower_vectors_have_the_same_convolutions(compiler, monkeypatch, without):
    path = os.environ["PATH"]
    compiler(f"{shutil.which('cc')} {without}")
    monkeypatch.setenv("PATH", path)
    functions = compiled.functions(torch.float32)
    assert functions.lanes == {"-mno-avx512f": 8, "-mno-avx": 4}[without] or "avx512f" not in instructions()
    random = torch.Generator().manual_seed(0)
    kinds = {3: FewChannels(functions, 1), 24: SmallMaps(functions), 40: Winograd(CompiledTiles(functions))}
    for channels, kind in kinds.items():
        shapes = (7, channels, 8, 4), (16, channels, 3, 3), (7, 16, 8, 4)
        x, w, g = (torch.randn(*shape, generator=random) for shape in shapes)
        expected, _ = Direct(1).forward(x, w)
        maps, inside = kind.forward(x, kind.weight(w))
        gradients = kind.backward(inside, g, kind.weight(w), True)
        for mine, theirs in zip((maps, *gradients), (expected, *Direct(1).backward(x, g, w, True)), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
    for shape in CLASSIFIERS:
        ours = classified(CompiledClassifier(functions), shape, torch.float32)
        for mine, theirs in zip(ours, classified(TorchClassifier(), shape, torch.float32), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def classified(kind, shape, dtype=torch.float64, shift=0, scale=1.0):
    """All that a classifier gives for so many networks, images, channels, rows, columns and classes.

    The first so many numbers of the parameters are not the classifier's; the others are so many times as large.
    """
    networks, count, channels, height, width, classes = shape
    random = torch.Generator().manual_seed(0)
    size = classes * channels * height * width
    points = torch.randn(3, networks, size + classes, generator=random, dtype=torch.float64) / size**0.5
    points = torch.cat([points.new_zeros(3, networks, shift), points * scale], 2).to(dtype)
    weight, bias = points[:, :, shift : shift + size].unflatten(-1, (classes, -1)), points[:, :, shift + size :]
    both = torch.randn(2 * count, networks * channels, height, width, generator=random, dtype=torch.float64).to(dtype)
    both = both.contiguous(memory_format=torch.channels_last)
    labels = -torch.rand(networks, count, classes, generator=random, dtype=torch.float64).to(dtype) / count
    return [*kind.gradient(both[:count], weight[0], bias[0], labels), *kind.along(both, weight, bias, labels)]


CLASSIFIERS = [
    (1, 3, 16, 1, 1, 10),
    (3, 20, 32, 2, 2, 10),
    (2, 7, 5, 1, 3, 37),
    (4, 150, 40, 2, 1, 3),
    (1, 1, 8, 4, 4, 100),
]


@needs_compiler
@pytest.mark.parametrize("shape", CLASSIFIERS, ids=str)
def test_the_compiled_classifier_is_that_of_torch(shape):
    for dtype, eps in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        ours = classified(CompiledClassifier(compiled.functions(dtype)), shape, dtype)
        for mine, expected in zip(ours, classified(TorchClassifier(), shape, dtype), strict=True):
            torch.testing.assert_close(mine, expected, rtol=eps * 10, atol=eps)


@needs_compiler
@pytest.mark.parametrize("scale", [1e3, 1e6, float("inf"), float("nan")])
def test_logits_of_any_size_are_those_of_torch(scale):
    """Finite where torch's are; else not, so that the meta-step fails as it should."""
    shape = CLASSIFIERS[1]
    ours = classified(CompiledClassifier(compiled.functions(torch.float32)), shape, torch.float32, scale=scale)
    for mine, expected in zip(ours, classified(TorchClassifier(), shape, torch.float32, scale=scale), strict=True):
        finite = expected.isfinite()
        assert torch.equal(mine.isfinite(), finite)
        largest = expected[finite].abs().max() if finite.any() else 0.0
        torch.testing.assert_close(mine[finite], expected[finite], rtol=1e-3, atol=1e-4 * float(largest))


@needs_compiler
def test_weights_and_biases_that_lie_otherwise_than_in_parameters_are_refused():
    kind = CompiledClassifier(compiled.functions(torch.float32))
    weight, bias = torch.zeros(2, 10, 16), torch.zeros(2, 10)
    with pytest.raises(AssertionError, match="of one vector"):
        kind.gradient(torch.zeros(3, 32, 1, 1), weight, bias, torch.zeros(2, 3, 10))
    with pytest.raises(AssertionError, match="of one vector"):
        kind.along(torch.zeros(6, 32, 1, 1), weight.expand(3, 2, 10, 16), bias.expand(3, 2, 10), torch.zeros(2, 3, 10))


@needs_compiler
def test_want_of_memory_within_them_is_an_error_and_no_end_of_the_process():
    """So that a trial says what to lower, or goes on with half its chunk, and others beside it go on."""
    code = """
import resource, torch
from ppodd.training.classifier import CompiledClassifier
from ppodd.training import compiled
kind = CompiledClassifier(compiled.functions(torch.float32))
weight, bias = torch.zeros(1, 2000, 4000), torch.zeros(1, 2000)
given = torch.zeros(3, 4000, 1, 1), weight, bias, torch.full((1, 3, 2000), -1.0)
kind.gradient(*given)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 45 * 2**20, resource.RLIM_INFINITY))
try:
    kind.gradient(*given)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(len(kind.gradient(*given)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "no room for what a compiled function computes\n4\n", done.stdout + done.stderr


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_rounds_alike_wherever_its_numbers_lie(dtype):
    """As those of a network do not when others are before it."""
    kind = CompiledClassifier(compiled.functions(dtype))
    expected = classified(kind, (2, 3, 16, 1, 1, 10), dtype)
    for shift in (1, 2, 5, 13):
        for mine, same in zip(classified(kind, (2, 3, 16, 1, 1, 10), dtype, shift), expected, strict=True):
            assert torch.equal(mine, same)


@needs_compiler
@pytest.mark.parametrize("networks", [(), (3,)], ids=["one network", "three"])
def test_compiled_adam_is_adam(networks):
    random = torch.Generator().manual_seed(0)
    theta, first, second, gradient, *bars = (
        torch.randn(*networks, 37, generator=random, dtype=torch.float64) for _ in range(7)
    )
    steps = torch.tensor([[0.0], [4.0], [90.0]], dtype=torch.float64) if networks else 4
    lr = torch.rand((*networks, 1) if networks else (), generator=random, dtype=torch.float64)
    state, bar = State(theta, first, second.square(), steps), State(*bars, steps)
    found = {}
    for choice in ("auto", "off"):
        compiled.choose_compiled(choice)
        with torch.no_grad():
            back, *rest = adam_cotangents(state, gradient, lr, bar)
            found[choice] = [*adam(state, gradient, lr), *adam(state, gradient, 0.1)[:3], *back, *rest]
    for mine, expected in zip(found["auto"], found["off"], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-11, atol=1e-11)
