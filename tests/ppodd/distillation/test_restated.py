"""The method stated a second time, as plainly as it can be: loops, autograd through everything, no code of the package.

Written from METHOD's sections 1 to 5 alone. It shares with the package the data, the starting poster and the rule by
which seeds follow from what they are for; two stages of three meta-steps must come to the same posters in float64.
"""

import hashlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ppodd.config import DistillConfig, build
from ppodd.datasets import load
from ppodd.distillation.initial import InitialPoster
from ppodd.distillation.stages import distill

ORDER = [[3, 1, 4, 0, 5], [9, 2, 6, 8, 7]]
CHANGES = {
    "dtype": "float64", "epochs": 2, "steps_per_epoch": 3, "batch_size": 700, "window": 3, "totwindow": 6,
    "class_order": ",".join(str(label) for row in ORDER for label in row), "stage_steps": 5, "stage_nets": 3,
}  # fmt: skip


def seed_of(*key):
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:8], "little") >> 1


def dice(*key):
    return torch.Generator().manual_seed(seed_of(*key))


def places(full, size, count):
    return [int(np.round(i * (full - size) / max(count - 1, 1))) for i in range(count)]


class Naive:
    def __init__(self, config, data):
        self.c, self.data = config, data
        c, side = config, 8
        self.corners = [
            (x, y)
            for x in places(c.poster_width, side, c.patch_num_x)
            for y in places(c.poster_height, side, c.patch_num_y)
        ]

    # Section 3: labels

    def fixed_labels(self):
        c, rows = self.c, []
        area_xs = places(c.poster_width, c.class_area_width, c.poster_class_num_x)
        area_ys = places(c.poster_height, c.class_area_height, c.poster_class_num_y)
        for left, top in self.corners:
            counts = torch.zeros(10, dtype=torch.float64)
            for row, area_y in enumerate(area_ys):
                for column, area_x in enumerate(area_xs):
                    for x in range(left, left + 8):
                        for y in range(top, top + 8):
                            in_x = area_x <= x < area_x + c.class_area_width
                            in_y = area_y <= y < area_y + c.class_area_height
                            counts[ORDER[row][column]] += in_x and in_y
            rows.append(torch.softmax(counts, 0))
        return torch.stack(rows)

    def learned_labels(self, array):
        high, wide = array.shape[1:]
        w, h = max(1, 8 * wide // self.c.poster_width), max(1, 8 * high // self.c.poster_height)
        rows = []
        for x in places(wide, w, self.c.patch_num_x):
            for y in places(high, h, self.c.patch_num_y):
                total = array[:, y : y + h, x : x + w].sum((1, 2))
                rows.append(total / total.sum())
        return torch.stack(rows)

    # Section 4: networks, augmentation, inner steps

    def network(self, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers, channels, padding = [], 1, 3
            for _ in range(3):
                layers += [
                    nn.Conv2d(channels, self.c.width, 3, padding=padding),
                    nn.GroupNorm(self.c.width, self.c.width),
                ]
                layers += [nn.ReLU(), nn.AvgPool2d(2)]
                channels, padding = self.c.width, 1
            net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(self.c.width, 10))
        return net.double()

    def augmented(self, x, generator):
        which = int(torch.randint(2, (), generator=generator))
        u = torch.rand(len(x), 3, generator=generator).double()[:, 0]
        if which == 0:
            return torch.stack([image.flip(2) if u[i] < 0.5 else image for i, image in enumerate(x)])
        angle = (u - 0.5) * 2 * math.radians(15)
        zero = torch.zeros_like(angle)
        theta = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).view(-1, 2, 3)
        return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)

    def batches(self, posters, labels, blend, steps, key):
        """The patches and labels of each step, one augmentation a step."""
        which, how = dice(*key, "patches"), dice(*key, "augmentation")
        for _ in range(steps):
            weights = torch.tensor(blend, dtype=torch.float64)
            drawn = torch.multinomial(weights, self.c.distill_batch_size, replacement=True, generator=which).tolist()
            images, targets = [], []
            for stage in range(len(posters)):
                if number := drawn.count(stage):
                    for patch in torch.randperm(len(self.corners), generator=which)[:number].tolist():
                        x, y = self.corners[patch]
                        images.append(posters[stage][:, y : y + 8, x : x + 8])
                        targets.append(labels[stage][patch])
            yield self.augmented(torch.stack(images), how), torch.stack(targets)

    def trained(self, net, steps):
        """Parameters after Adam's steps on these batches, a function of the posters."""
        parts = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
        first = {name: torch.zeros_like(p) for name, p in parts.items()}
        second = {name: torch.zeros_like(p) for name, p in parts.items()}
        for t, (images, targets) in enumerate(steps, 1):
            loss = F.cross_entropy(torch.func.functional_call(net, parts, (images,)), targets)
            slopes = torch.autograd.grad(loss, list(parts.values()), create_graph=True)
            for name, slope in zip(list(parts), slopes, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * slope
                second[name] = 0.999 * second[name] + 0.001 * slope**2
                root = (second[name] / (1 - 0.999**t) + 1e-30).sqrt() + 1e-8
                parts[name] = parts[name] - self.c.inner_lr * first[name] / (1 - 0.9**t) / root
        return parts

    # Section 5: stages and blends

    def accuracy(self, posters, labels, blend, stage):
        """Mean accuracy (percent) of fresh networks on the validation split."""
        found, base = [], seed_of(self.c.seed, "stage accuracy", stage)
        for number in range(self.c.stage_nets):
            key = (base, "evaluate", "convnet", number)
            net = self.network(seed_of(*key))
            parts = self.trained(net, self.batches(posters, labels, blend, self.c.stage_steps, key))
            said = torch.func.functional_call(net, parts, (self.data.validation.x,)).argmax(1)
            found.append(100 * float((said == self.data.validation.y).double().mean()))
        return sum(found) / len(found)

    def dynamic(self, accuracies):
        known = [*accuracies, 0.9 * accuracies[-1]] if accuracies else [1.0]
        shares = [(a + 1e-5) / sum(b + 1e-5 for b in known) for a in known]
        weights = [w * math.exp(-0.5 * (len(known) - 1 - t)) for t, w in enumerate(shares)]
        weights[-1] *= 1.5
        weights = [max(w / sum(weights), 0.1 / len(weights)) for w in weights]
        return [w / sum(weights) for w in weights]

    def run(self, poster, array):
        """The poster of each stage."""
        c, images = self.c, self.data.train.x
        learned = [t.clone() for t in (poster, array) if t is not None]
        first, second = [torch.zeros_like(t) for t in learned], [torch.zeros_like(t) for t in learned]
        frozen, frozen_labels, accuracies, outer_steps = [], [], [], 0
        for stage in range(1, c.num_stages + 1):
            blend, average = self.dynamic(accuracies), None
            for step in range(c.epochs // c.num_stages * c.steps_per_epoch):
                leaves = [t.clone().requires_grad_() for t in learned]
                labels = self.learned_labels(leaves[1]) if array is not None else self.fixed_labels()
                epoch, key = step // c.steps_per_epoch, (c.seed, "meta-step", stage, step)
                plain = int(
                    torch.randint(0, c.totwindow - c.window + 1, (), generator=dice(c.seed, "curriculum", stage, epoch))
                )
                net, steps = self.network(seed_of(*key)), []
                batches = self.batches([*frozen, leaves[0]], [*frozen_labels, labels], blend, plain + c.window, key)
                for number, (x, y) in enumerate(batches):
                    steps.append((x, y) if number >= plain else (x.detach(), y.detach()))
                parts = self.trained(net, steps)
                order = torch.randperm(len(images), generator=dice(c.seed, "epoch", stage, epoch))
                first_image = step % c.steps_per_epoch * c.batch_size
                picks = order[[i % len(images) for i in range(first_image, first_image + c.batch_size)]]
                real = self.augmented(images[picks], dice(c.seed, "real augmentation", stage, step))
                loss = F.cross_entropy(torch.func.functional_call(net, parts, (real,)), self.data.train.y[picks])
                slopes = list(torch.autograd.grad(loss, leaves))
                norm = float(slopes[0].norm())
                average = 0.9 * (norm if average is None else average) + 0.1 * norm
                slopes[0] = slopes[0] * min(1.0, 2 * average / norm)
                outer_steps += 1
                for i, slope in enumerate(slopes):
                    first[i], second[i] = 0.9 * first[i] + 0.1 * slope, 0.999 * second[i] + 0.001 * slope**2
                    root = (second[i] / (1 - 0.999**outer_steps)).sqrt() + 1e-8
                    learned[i] = learned[i] - c.lr / (1 - 0.9**outer_steps) * first[i] / root
                if array is not None:
                    learned[1] = learned[1].clamp(min=0)
            labels = self.learned_labels(learned[1]) if array is not None else self.fixed_labels()
            frozen, frozen_labels = [*frozen, learned[0]], [*frozen_labels, labels]
            accuracies.append(self.accuracy(frozen, frozen_labels, blend, stage))
        return frozen, accuracies


@pytest.mark.parametrize("train_y", [False, True], ids=["fixed labels", "learned labels"])
def test_the_method_stated_twice_comes_to_the_same_posters(tiny, train_y):
    config = build(DistillConfig, {**tiny, **CHANGES, "train_y": train_y})
    data = load(config.data, torch.device("cpu"))
    noise = dice("start")
    poster = torch.rand(1, config.poster_height, config.poster_width, generator=noise, dtype=torch.float64)
    array = torch.rand(10, 4, 8, generator=noise, dtype=torch.float64) if train_y else None
    start = InitialPoster(poster.numpy(), None if array is None else array.numpy())
    ours = list(distill(config, data, initial=start))
    posters, accuracies = Naive(config, data).run(poster, array)
    assert [stage.accuracy.mean for stage in ours] == pytest.approx(accuracies, abs=1e-9)

    for stage, restated in zip(ours, posters, strict=True):
        moved = (restated - poster).abs().max()
        assert moved > 0.05
        assert np.abs(stage.poster.poster - restated.numpy()).max() < 1e-9
