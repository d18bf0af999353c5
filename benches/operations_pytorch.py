"""Times in PyTorch what the examples `resnet34` and `conv` of crates/ops time.   operations_pytorch.py PIXELS BATCH STEPS

Two threads; the best of STEPS. Forward and backward of a ResNet34 in training mode, then of its 3x3 convolutions: forward, and
backward to weights and data together.
"""

import sys
import time

import torch
import torch.nn.functional as F
import torchvision

torch.set_num_threads(2)
pixels, batch, steps = map(int, sys.argv[1:])


def report(name, forward, operands):
    best = [float("inf")] * 2
    for _ in range(steps):
        start = time.perf_counter()
        y = forward()
        best[0] = min(best[0], time.perf_counter() - start)
        gradient = torch.ones_like(y)
        for operand in operands:
            operand.grad = None
        start = time.perf_counter()
        y.backward(gradient)
        best[1] = min(best[1], time.perf_counter() - start)
    print(f"{name:34} forward {best[0] * 1e3:8.2f} ms   backward {best[1] * 1e3:8.2f} ms", flush=True)


network = torchvision.models.resnet34().train()
images = torch.randn(batch, 3, pixels, pixels)
report("resnet34", lambda: network(images), list(network.parameters()))
for channels, scale in [(64, 4), (128, 8), (256, 16), (512, 32)]:
    x = torch.randn(batch, channels, pixels // scale, pixels // scale, requires_grad=True)
    weight = torch.randn(channels, channels, 3, 3, requires_grad=True)
    report(f"conv 3x3, {channels}, {pixels // scale} px", lambda: F.conv2d(x, weight, padding=1), [x, weight])
