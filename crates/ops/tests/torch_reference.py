"""Prints the figures of it/torch.txt: operations on a fixed ramp of values, in float64, by PyTorch.

One line each: the case's name, its output, and the gradient of each operand. Run: python torch_reference.py > it/torch.txt
"""

import math

import torch
import torch.nn.functional as F


def ramp(*shape, phase=0.0):
    """Values that another language can repeat: sin(0.7 i + phase), in row-major order."""
    count = math.prod(shape)
    values = [math.sin(0.7 * i + phase) for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape).requires_grad_()


def case(name, operands, output):
    """Output, and the gradients of the sum of output * ramp."""
    (output * ramp(*output.shape, phase=0.5).detach()).sum().backward()
    figures = lambda t: " ".join(f"{value:.10g}" for value in t.detach().flatten().tolist())
    return "\n".join([f"# {name}", figures(output), *(figures(t.grad) for t in operands)])


def cases():
    x, w, b = ramp(2, 3, 5, 4), ramp(4, 3, 3, 3, phase=1.0), ramp(4, phase=2.0)
    yield case("conv stride 2", [x, w, b], F.conv2d(x, w, b, stride=2, padding=1))

    x, w = ramp(2, 3, 5, 4), ramp(2, 3, 3, 3, phase=1.0)
    yield case("conv asymmetric", [x, w], F.conv2d(F.pad(x, (0, 1, 1, 2)), w, stride=2))

    x, w = ramp(2, 4, 5, 4), ramp(4, 2, 3, 3, phase=1.0)
    yield case("conv groups", [x, w], F.conv2d(x, w, padding=1, groups=2))

    x, w = ramp(2, 4, 5, 4), ramp(4, 1, 3, 3, phase=1.0)
    yield case("conv depthwise", [x, w], F.conv2d(x, w, stride=2, padding=1, groups=4))

    x, g, b, r = ramp(2, 3, 3, 4), ramp(3, phase=1.0), ramp(3, phase=2.0), ramp(2, 3, 3, 4, phase=3.0)
    y = F.batch_norm(x, None, None, g, b, training=True, eps=1e-3)
    yield case("batch norm", [x, g, b, r], F.relu(y + r))

    x, g, b = ramp(2, 3, 3, 4), (ramp(3, phase=1.0).detach() * 8).requires_grad_(), ramp(3, phase=2.0)
    yield case("batch norm relu6", [x, g, b], F.relu6(F.batch_norm(x, None, None, g, b, training=True, eps=1e-3)))

    x = ramp(2, 2, 6, 5)
    yield case("max pool", [x], F.max_pool2d(x, 3, stride=2, padding=1))

    # Ties: one decimal of a slow ramp.
    x = (ramp(1, 2, 6, 6).detach() * 2).round().requires_grad_()
    yield case("max pool ties", [x], F.max_pool2d(x, 3, stride=2, padding=1))

    x = ramp(2, 2, 6, 5)
    yield case("max pool ceil", [x], F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True))

    x = ramp(2, 2, 6, 5)
    yield case("average pool ceil", [x], F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True))

    x = ramp(1, 2, 7, 6)
    yield case("average pool ceil beyond", [x], F.avg_pool2d(x, 2, stride=3, ceil_mode=True))

    x = ramp(1, 2, 7, 5)
    yield case("adaptive average pool", [x], F.adaptive_avg_pool2d(x, (3, 4)))

    x, w, b = ramp(3, 5), ramp(4, 5, phase=1.0), ramp(4, phase=2.0)
    yield case("linear", [x, w, b], F.linear(x, w, b))


if __name__ == "__main__":
    print("\n".join(cases()))
