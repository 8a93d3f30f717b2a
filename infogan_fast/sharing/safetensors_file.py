"""The weights as a safetensors file, with a Python file that makes networks of them in plain PyTorch."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

import infogan_fast
from infogan_fast.errors import UserError
from infogan_fast.extras import extra
from infogan_fast.latents import Code, LatentSpec
from infogan_fast.sharing.metadata import KEY

SCRIPT = "infogan_networks.py"

_SCRIPT = '''"""The networks of a trained InfoGAN in plain PyTorch. Written by infogan_fast {version}.

    from infogan_networks import draw, load

    generator, encoder = load()
    images = generator(draw(16))  # latents [N, {latents}] -> images [N, {channels}, {size}, {size}] in [0, 1]
    {use}

`python infogan_networks.py` writes samples.png. It needs the packages torch, safetensors and pillow.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def networks():
    """The generator and the encoder, without their weights."""
    generator = {generator}
    encoder = {encoder}
    return generator, encoder


def load(path=Path(__file__).with_name({weights})):
    """The generator and the encoder with the weights of that file, on the CPU."""
    parts = dict(zip(("generator", "encoder"), networks()))
    present = nn.ModuleDict({{name: part for name, part in parts.items() if part is not None}})
    present.load_state_dict(load_file(path))
    present.eval().requires_grad_(False)
    return parts["generator"], parts["encoder"]


def draw(n):
    """Latents of n images, each part drawn from its prior: float32 [n, {latents}]."""
    parts = [
{draws}
    ]
    return torch.cat(parts, 1)


if __name__ == "__main__":
    from PIL import Image

    generator, _ = load()
    torch.manual_seed(0)
    images = (generator(draw(64)) * 255).round().to(torch.uint8)
    rows = images.unflatten(0, (8, 8)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    Image.fromarray(rows.squeeze(-1).numpy()).save("samples.png")
    print("samples.png")
'''

_WEIGHTS_OF = re.compile(r'with_name\(("(?:[^"\\]|\\.)*")\)')

_DRAWS = {
    "normal": "torch.randn(n, {size})",
    "uniform": "torch.rand(n, {size}) * 2 - 1",
    "bernoulli": "torch.randint(2, (n, {size})).float()",
}


def check_packages() -> None:
    """Check that safetensors is installed.

    Raises:
        UserError: it is not.
    """
    extra("export", "safetensors.torch", "--to safetensors")


def check_free(folder: Path, weights: str) -> None:
    """Check that a folder has no Python file of other weights, which would no longer find their networks.

    Raises:
        UserError: it has one.
    """
    path = folder / SCRIPT
    if not path.exists():
        return
    named = _WEIGHTS_OF.search(path.read_text(errors="replace"))
    other = json.loads(named[1]) if named else weights
    if other != weights and (folder / other).exists():
        raise UserError(
            f"--out {folder / weights}: {SCRIPT} in that folder is of {other}; give another folder, or "
            "remove them"
        )


def safetensors_bytes(networks: Mapping[str, nn.Sequential], metadata: str) -> bytes:
    """A safetensors file of networks by name: keys such as ``generator.0.weight``.

    Raises:
        UserError: safetensors is missing.
    """
    safetensors = extra("export", "safetensors.torch", "--to safetensors")
    data: bytes = safetensors.save(nn.ModuleDict(networks).state_dict(), {"format": "pt", KEY: metadata})
    return data


def script(
    networks: Mapping[str, nn.Sequential], spec: LatentSpec, size: int, channels: int, weights: str
) -> bytes:
    """The Python file that makes these networks of a file of weights next to it.

    Args:
        networks: plain PyTorch: the ``generator`` and perhaps the ``encoder``.
        size, channels: of the images.
        weights: the name of the file.
    """
    encoder = networks.get("encoder")
    use = "encoder is None: it was not exported"
    if encoder is not None:
        use = f"answers = encoder(images)  # what Q reads: [N, {encoder[-1].out_features}]"
    text = _SCRIPT.format(
        version=infogan_fast.__version__,
        latents=spec.latent_dim,
        channels=channels,
        size=size,
        use=use,
        generator=_expression(networks["generator"]),
        encoder="None" if encoder is None else _expression(encoder),
        weights=json.dumps(weights),
        draws="\n".join(f"        {line}" for line in _draws(spec)),
    )
    return text.encode()


def load_script(path: Path, weights: Path) -> dict[str, Any]:
    """What the Python file makes of the weights: the networks by name, None for one that is not there."""
    generator, encoder = runpy.run_path(str(path))["load"](weights)
    return {"generator": generator, "encoder": encoder}


def _expression(network: nn.Sequential) -> str:
    # PyTorch's text of each of these modules is the expression that makes it.
    layers = "".join(f"        nn.{layer!r},\n" for layer in network)
    return f"nn.Sequential(\n{layers}    )"


def _draws(spec: LatentSpec) -> list[str]:
    lines = [f"{_DRAWS[spec.noise].format(size=spec.noise_dim)},  # noise"] if spec.noise_dim else []
    return lines + [f"{_drawn(code)},  # {code.name}, {code.kind}" for code in spec.codes]


def _drawn(code: Code) -> str:
    if not code.is_categorical:
        return _DRAWS[code.kind].format(size=1)
    if code.probabilities is None:
        values = f"torch.randint({code.size}, (n,))"
    else:
        values = f"torch.multinomial(torch.tensor({list(code.probabilities)}), n, replacement=True)"
    return f"nn.functional.one_hot({values}, {code.size}).float()"
