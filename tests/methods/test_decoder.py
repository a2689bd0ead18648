"""BlackVIP's decoder against PyTorch's modules, and the head that reads prompted photos."""

import math

import numpy as np
import pytest

from sharpzo.detour import detours
from sharpzo.errors import ArtifactError, InputError
from sharpzo.linear import LinearHead
from sharpzo.methods.decoder import (
    FRESH,
    Coordinator,
    PromptedHead,
    add_prompts,
    decode,
    gelu,
    initial,
    resize,
    shapes,
    unflatten,
)
from sharpzo.types import Features

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
# As published: in, out, groups of each transposed convolution, then the 1x1 convolution's out.
PUBLISHED = [(32, 64, 32, 64), (64, 64, 64, 32), (32, 32, 32, 32), (32, 32, 32, 16)]


def network():
    """The published decoder as PyTorch's modules."""
    layers = []
    for inner, wide, groups, outer in PUBLISHED:
        layers += [
            torch.nn.ConvTranspose2d(inner, wide, 2, 2, groups=groups),
            torch.nn.Conv2d(wide, outer, 1, bias=False),
            torch.nn.BatchNorm2d(outer),
            torch.nn.GELU(),
        ]
    return torch.nn.Sequential(*layers, torch.nn.ConvTranspose2d(16, 3, 2, 2, bias=False))


def draws(seed=0):
    """Numbers of a size that matters in every place."""
    return np.random.default_rng(seed).normal(0, 0.3, 9920)


def load(net, numbers):
    flat = torch.from_numpy(numbers[:9120].astype(np.float32))
    torch.nn.utils.vector_to_parameters(flat, net.parameters())


def code(numbers, states):
    z = np.zeros((len(states), 1568), np.float32)
    z[:, : min(states.shape[1], 768)] = states[:, :768]
    z[:, 768:] = numbers[9120:]
    return torch.from_numpy(z.reshape(-1, 32, 7, 7))


def test_9120_and_800_numbers_in_pytorch_s_order():
    net = network()
    assert sum(p.numel() for p in net.parameters()) == 9120
    assert sum(math.prod(shape) for _, shape in shapes()) == 9920
    ours = [shape for name, shape in shapes() if name != "trigger"]
    theirs = [tuple(p.shape) for p in net.parameters()]
    assert [(*s, 1, 1) if len(s) == 2 else s for s in ours] == theirs


@pytest.mark.parametrize("width", [384, 768, 1000])
def test_training_mode_is_pytorch_s(width):
    net, numbers = network().train(), draws()
    load(net, numbers)
    running = FRESH
    for seed in (1, 2):  # the running moments remember both
        states = np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32)
        with torch.no_grad():
            expected = net(code(numbers, states)).numpy()
        found, batch = decode(numbers, states)
        running = 0.9 * running + 0.1 * batch
        assert found.shape == (3, 3, 224, 224)
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    norms = [m for m in net if isinstance(m, torch.nn.BatchNorm2d)]
    means = np.concatenate([m.running_mean.numpy() for m in norms])
    variances = np.concatenate([m.running_var.numpy() for m in norms])
    np.testing.assert_allclose(running[0], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(running[1], variances, rtol=1e-4)


def test_test_mode_uses_the_running_moments():
    net, numbers = network(), draws()
    load(net, numbers)
    rng, ends = np.random.default_rng(3), np.cumsum([64, 32, 32, 16])
    moments = np.stack([rng.normal(0, 0.1, 144), rng.uniform(0.5, 2, 144)]).astype(np.float32)
    norms = [m for m in net if isinstance(m, torch.nn.BatchNorm2d)]
    for norm, end in zip(norms, ends, strict=True):
        here = slice(end - norm.num_features, end)
        norm.running_mean = torch.from_numpy(moments[0, here])
        norm.running_var = torch.from_numpy(moments[1, here])
    states = rng.normal(size=(2, 384)).astype(np.float32)
    with torch.no_grad():
        expected = net.eval()(code(numbers, states)).numpy()
    found, _ = decode(numbers, states, moments)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    alone, _ = decode(numbers, states[:1], moments)
    np.testing.assert_allclose(alone[0], found[0], atol=1e-5 * np.abs(expected).max())


def test_the_start_has_pytorch_s_bounds():
    parts = unflatten(initial(1))
    for (name, _), module in zip(
        [item for item in shapes() if item[0].endswith("weight") and "norm" not in item[0]],
        [m for m in network() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)],
        strict=True,
    ):
        bound = 1 / math.sqrt(torch.nn.init._calculate_fan_in_and_fan_out(module.weight)[0])
        assert 0.9 * bound < np.abs(parts[name]).max() <= bound
        if module.bias is not None:
            bias = np.abs(parts[name.replace("weight", "bias")])
            assert 0.8 * bound < bias.max() <= bound
    assert (parts["2.norm.weight"] == 1).all()
    assert (parts["2.norm.bias"] == 0).all()
    assert 0.09 < parts["trigger"].max() <= 0.1
    assert 0 <= parts["trigger"].min() < 0.01
    assert not np.array_equal(initial(1), initial(2))


def test_gelu_is_exact_to_single_precision():
    x = np.linspace(-9, 9, 200_001, dtype=np.float32)
    exact = torch.nn.functional.gelu(torch.from_numpy(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(gelu(x), exact, atol=5e-7, rtol=2e-7)


@pytest.mark.parametrize("side", [224, 112, 32])
def test_smaller_towers_see_the_means_of_blocks(side):
    prompts = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(prompts), side).numpy()
    np.testing.assert_allclose(resize(prompts, side, side), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(336, 336), (256, 240), (42, 42)])
def test_other_sizes_are_interpolated(height, width):
    prompts = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(prompts).double(),
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    ).numpy()
    np.testing.assert_allclose(resize(prompts, height, width), expected, atol=1e-5)


def coordinator(seed=0):
    low, high = np.array([-1.0, -2, -3], np.float32), np.array([1.0, 2, 3], np.float32)
    return Coordinator(draws(seed).astype(np.float32), FRESH, 0.4, low, high)


def test_prompted_pixels_stay_within_black_and_white():
    one = coordinator()
    pixels = np.zeros((2, 3, 16, 16), np.float32)
    states = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)
    prompted = one.prompt(pixels, states)
    prompts, _ = decode(one.numbers, states, one.moments)
    expected = np.clip(
        0.4 * resize(prompts, 16, 16), one.low[:, None, None], one.high[:, None, None]
    )
    np.testing.assert_allclose(prompted, expected, atol=1e-6)
    signs = np.sign(np.random.default_rng(1).normal(size=prompts.shape)).astype(np.float32)
    strong = add_prompts(pixels, 1e3 * signs, 0.4, one.low, one.high)
    for channel in range(3):
        assert strong[:, channel].min() == one.low[channel]
        assert strong[:, channel].max() == one.high[channel]


def test_the_head_reads_the_vectors_of_its_own_detour():
    head = PromptedHead(LinearHead(np.eye(2), np.zeros(2), 5.0), coordinator())
    other = coordinator(1)
    clean, prompted = np.eye(2), np.array([[0.0, 1.0], [0.6, 0.8]])
    photos = Features(clean, np.array([0, 1]), ("cat", "dog"), detours={other.digest: clean})
    with pytest.raises(InputError, match="encoded without the detour"):
        head.scores(photos)
    photos = Features(
        clean, np.array([0, 1]), ("cat", "dog"),
        detours={other.digest: clean, head.detour.digest: prompted},
    )  # fmt: skip
    np.testing.assert_allclose(head.scores(photos), 5 * prompted)
    np.testing.assert_allclose(head.scores(photos.take(np.array([1]))), 5 * prompted[1:])
    again = PromptedHead.from_arrays(head.arrays())
    assert again.detour.digest == head.detour.digest
    assert [p.digest for p in detours([None, head, again, head.linear])] == [again.detour.digest]


@pytest.mark.parametrize("name", ["prompter", "prompter_variance", "pixel_low"])
def test_a_damaged_artefact(name):
    head = PromptedHead(LinearHead(np.eye(2), np.zeros(2), 5.0), coordinator())
    arrays = head.arrays()
    arrays[name] = arrays[name][:-1]
    with pytest.raises(ArtifactError, match=rf"has arrays .*{name} \([0-9]+,\).* expected"):
        PromptedHead.from_arrays(arrays)
