"""Small files as PyTorch and safetensors write them.   python checkpoints.py

Writes, beside itself, `checkpoints/` with the files and `checkpoints.json` with what is in them: shape and values of each tensor
of floating-point numbers. `*-evil.pth` would write a file if their pickle were run; nothing of them may be read.
"""

import json
import os
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

here = Path(__file__).parent
folder = here / "checkpoints"
folder.mkdir(exist_ok=True)
torch.manual_seed(1)
base = torch.randn(5, 4)
tensors = OrderedDict(
    plain=torch.randn(2, 3),
    transposed=torch.randn(3, 2).t(),
    permuted=torch.randn(2, 3, 4, 2).permute(3, 0, 2, 1),
    channels_last=torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    part=base[1:4, 2],
    whole=base,
    half=torch.randn(4).half(),
    bfloat=torch.randn(3, 2).bfloat16(),
    double=torch.randn(2, 2).double(),
    scalar=torch.tensor(0.25),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(torch.randn(3)),
    num_batches_tracked=torch.tensor(7),
    flags=torch.tensor([True, False]),
)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


others = {"epoch": 3, "loss": 0.5, "name": "trial", "best": None, "seed": 2**70, "sizes": [1, (2, 3)], "done": True}
files = {
    "zip.pth": (tensors, {}),
    "legacy.pth": (tensors, {"_use_new_zipfile_serialization": False}),
    "zip-protocol-4.pth": (dict(tensors) | others, {"pickle_protocol": 4}),
    "legacy-protocol-4.pth": (dict(tensors) | others, {"pickle_protocol": 4, "_use_new_zipfile_serialization": False}),
    "network.pth": (network.state_dict(), {}),
    "nested.pth": (others | {"state_dict": network.state_dict()}, {}),
    "model.pth": (others | {"model": network.state_dict()}, {"_use_new_zipfile_serialization": False}),
    "zip-evil.pth": ({"plain": tensors["plain"], "x": Evil()}, {}),
    "legacy-evil.pth": ({"plain": tensors["plain"], "x": Evil()}, {"_use_new_zipfile_serialization": False}),
    "whole-module.pth": (network, {}),
    "no-tensors.pth": (others, {}),
}
expected = {}
for name, (value, options) in files.items():
    torch.save(value, folder / name, **options)
    if isinstance(value, dict):
        inner = value.get("state_dict", value.get("model", value))
        found = {key: t for key, t in inner.items() if isinstance(t, torch.Tensor) and t.is_floating_point()}
        expected[name] = {key: {"shape": list(t.shape), "values": t.double().flatten().tolist()} for key, t in found.items()}
plain = {key: t.detach().contiguous().clone() for key, t in tensors.items()}
save_file(plain, folder / "plain.safetensors")
expected["plain.safetensors"] = expected["zip.pth"]
(here / "checkpoints.json").write_text(json.dumps(expected, indent=1) + "\n")
