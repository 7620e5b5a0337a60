"""How fast Zorro on ViT-B is, beside the same network in PyTorch with the same weights and mask.

python -m benchmarks.zorro_throughput                  # ViT-B, a video of 32 frames at 224 x 224 and 8 s of sound
python -m benchmarks.zorro_throughput --image 96 --batch 1
python -m benchmarks.zorro_throughput --small          # a check that it runs and that the two agree

Both sides use every core that the process may use. The peer is a plain module on `scaled_dot_product_attention`; before
anything is timed their readouts must agree to 1e-4.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from limbeck.encoders import (
    FUSION,
    GLOBAL,
    Spectrogram,
    Video,
    ViTTrunk,
    Zorro,
    ZorroConfig,
    allow,
    readout_allow,
)
from torch import nn

from ._machine import RESULTS, circumstances, cores, write
from ._speed_distillation import matmul_peak


class Block(nn.Module):
    def __init__(self, trunk: ViTTrunk):
        super().__init__()
        width, self.heads = trunk.d_model, trunk.num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, trunk.feed_forward), nn.Linear(trunk.feed_forward, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = _heads(self.qkv(self.norm_1(x)), 3, self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class TorchZorro(nn.Module):
    """Zorro of a video and a spectrogram; parameters come from ours (`load`)."""

    def __init__(self, config: ZorroConfig):
        super().__init__()
        self.config, trunk = config, config.trunk
        assert isinstance(trunk, ViTTrunk)
        width = trunk.d_model
        sizes = {"video": int(np.prod(config.modalities["video"].tubelet)) * 3}
        sizes["audio"] = config.modalities["audio"].patch ** 2
        self.patches = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        self.positions = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(m.num_tokens, width)) for name, m in config.modalities.items()}
        )
        self.fusion = nn.Parameter(torch.zeros(config.fusion_tokens, width))
        self.blocks = nn.ModuleList(Block(trunk) for _ in range(trunk.num_layers))
        self.norm, self.queries = nn.LayerNorm(width), nn.Parameter(torch.zeros(4, width))
        self.key_value, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        types = _types(config)
        self.register_buffer("mask", torch.from_numpy(allow(types, types)))
        self.register_buffer(
            "readout_mask", torch.from_numpy(readout_allow(np.array([1, 2, FUSION, GLOBAL]), types))
        )

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Readouts `[B, 4, D]` of video, audio, fusion and all."""
        x = [self.fusion.expand(len(video), -1, -1)]
        for name, value in (("video", video), ("audio", audio[..., None])):
            x.append(self.patches[name](_patches(value, self.config.modalities[name])) + self.positions[name])
        x = torch.cat(x, 1)
        for block in self.blocks:
            x = block(x, self.mask)
        key, value = _heads(self.key_value(self.norm(x)), 2, self.config.readout_heads, last=True)
        query = self.queries.expand(len(x), -1, -1)
        query = query.reshape(*query.shape[:2], self.config.readout_heads, -1).transpose(1, 2)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=self.readout_mask)
        return self.out(out.transpose(1, 2).flatten(2))

    def load(self, params: Any) -> None:
        """Takes our parameters."""

        def put(target: nn.Parameter, array: Any) -> None:
            target.data = torch.from_numpy(np.array(array))

        def linear(target: nn.Linear, name: str) -> None:
            put(target.weight, params[name]["w"].T)
            put(target.bias, params[name]["b"])

        def norm(target: nn.LayerNorm, name: str) -> None:
            put(target.weight, params[name]["scale"])
            put(target.bias, params[name]["offset"])

        for name, modality in self.config.modalities.items():
            linear(self.patches[name], f"zorro/{name}_patches")
            tables = [params["zorro"].get(f"{name}_positions_{axis}") for axis in range(len(modality.grid))]
            if modality.positions == "factorised":
                place = sum(np.asarray(t)[i] for t, i in zip(tables, np.indices(modality.grid), strict=True))
                put(self.positions[name], np.asarray(place).reshape(modality.num_tokens, -1))
            else:
                put(self.positions[name], params["zorro"][f"{name}_positions"])
        put(self.fusion, params["zorro"]["fusion"])
        put(self.queries, params["zorro"]["queries"][np.array([1, 2, FUSION, GLOBAL])])
        for i, block in enumerate(self.blocks):
            ours = f"zorro/trunk/~/block_{i}/~"
            norm(block.norm_1, f"{ours}/attention_norm")
            linear(block.qkv, f"{ours}/query_key_value")
            linear(block.out, f"{ours}/attention_out")
            norm(block.norm_2, f"{ours}/feed_forward_norm")
            linear(block.up, f"{ours}/feed_forward/up")
            linear(block.down, f"{ours}/feed_forward/down")
        norm(self.norm, "zorro/trunk/~/final_norm")
        linear(self.key_value, "zorro/readout_key_value")
        linear(self.out, "zorro/readout_out")


def _types(config: ZorroConfig) -> np.ndarray:
    counts = [config.fusion_tokens, *(m.num_tokens for m in config.modalities.values())]
    return np.repeat(np.arange(len(counts)), counts)


def _heads(x: torch.Tensor, parts: int, heads: int, last: bool = False) -> tuple[torch.Tensor, ...]:
    """`[B, L, parts H D]` to `parts` arrays `[B, H, L, D]`; `last` where the parts lie inside a head."""
    shape = (heads, parts, -1) if last else (parts, heads, -1)
    x = x.view(*x.shape[:2], *shape)
    return tuple(part.transpose(1, 2) for part in x.unbind(-2 if last else 2))


def _patches(x: torch.Tensor, modality: Any) -> torch.Tensor:
    """`[B, *size, C]` to `[B, N, features of a patch]`."""
    axes = len(modality.grid)
    sides = [n // g for n, g in zip(x.shape[1:-1], modality.grid, strict=True)]
    split = [side for pair in zip(modality.grid, sides, strict=True) for side in pair]
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return x.reshape(len(x), *split, -1).permute(order).flatten(1, axes).flatten(2)


def flops(config: ZorroConfig) -> int:
    """Multiplications and additions of the matrix products of one example's forward pass.

    A weight costs two for each token; a pair that the mask allows costs two products of the width. What an
    implementation computes beside that (masked pairs) does not count.
    """
    trunk, types = config.trunk, _types(config)
    assert isinstance(trunk, ViTTrunk)
    width = trunk.d_model
    pairs = int(allow(types, types).sum())
    layer = 2 * len(types) * (4 * width**2 + 2 * width * trunk.feed_forward) + 4 * width * pairs
    patches = sum(2 * int(np.prod(m.shape)) * width for m in config.modalities.values())
    return trunk.num_layers * layer + patches + 2 * len(types) * 2 * width**2


def measure(config: ZorroConfig, batch: int, repeats: int) -> dict[str, Any]:
    """Examples/s of both sides, forward alone and with backward and AdamW, by turns."""
    torch.set_num_threads(cores())
    rng = np.random.default_rng(0)
    inputs = {n: rng.standard_normal((batch, *m.shape), np.float32) for n, m in config.modalities.items()}
    network = hk.without_apply_rng(hk.transform(lambda x: Zorro(config)(x)))
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    # At the start fusion tokens and queries are small, and a fault in them would hardly be seen.
    params = jax.tree.map(lambda p: p + 0.02 * rng.standard_normal(p.shape, np.float32), params)
    peer = TorchZorro(config)
    peer.load(params)

    @jax.jit
    def forward(params, x):
        readouts = network.apply(params, x)
        return jnp.stack([readouts[name] for name in ("video", "audio", "fusion", "global")], 1)

    given = [torch.from_numpy(inputs[name]) for name in ("video", "audio")]
    with torch.inference_mode():
        apart = float(np.abs(forward(params, inputs) - peer(*given).numpy()).max())
    print(f"largest difference of readouts: {apart:.1e}")
    if not apart < 1e-4:
        raise SystemExit(f"The two networks differ by {apart:.1e}, more than 1e-4: nothing was timed.")

    optimiser = optax.adamw(1e-4)

    @jax.jit
    def update(params, state, x):
        gradient = jax.grad(lambda p: jnp.mean(jnp.square(forward(p, x))))(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    learned = (params, optimiser.init(params))
    torch_optimiser = torch.optim.AdamW(peer.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)

    def torch_forward() -> None:
        with torch.inference_mode():
            peer(*given)

    def torch_update() -> None:
        torch_optimiser.zero_grad(set_to_none=True)
        peer(*given).square().mean().backward()
        torch_optimiser.step()

    sides: dict[str, dict[str, Callable[[], Any]]] = {
        "forward": {"ours": lambda: forward(params, inputs).block_until_ready(), "torch": torch_forward},
        "training": {"ours": lambda: jax.block_until_ready(update(*learned, inputs)), "torch": torch_update},
    }
    peak, work = matmul_peak(), flops(config)
    result: dict[str, Any] = {
        "largest_difference": apart,
        "matmul_peak_gflops": round(peak, 1),
        "gflop_per_example_forward": round(work / 1e9, 2),
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "torch_parameters": sum(x.numel() for x in peer.parameters()),
        "tokens": len(_types(config)), "batch": batch, "threads": cores(), "repeats": repeats,
    }  # fmt: skip
    for what, runs in sides.items():
        rates: dict[str, list[float]] = {side: [] for side in runs}
        for run in runs.values():
            run()
        for _ in range(repeats):
            for side, run in runs.items():
                started = time.perf_counter()
                run()
                rates[side].append(batch / (time.perf_counter() - started))
        medians = {side: statistics.median(values) for side, values in rates.items()}
        gflops = medians["ours"] * work * (1 if what == "forward" else 3) / 1e9
        result[what] = {
            "examples_per_second": round(medians["ours"], 4),
            "torch_examples_per_second": round(medians["torch"], 4),
            "ratio": round(medians["ours"] / medians["torch"], 3),
            "share_of_matmul_peak": round(gflops / peak, 3),
            "all": {side: [round(x, 4) for x in values] for side, values in rates.items()},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--image", type=int, default=224, help="pixels of a frame's side, a multiple of 16")
    parser.add_argument("--frames", type=int, default=32, help="of the video, a multiple of 2")
    parser.add_argument("--sound", type=int, default=800, help="frames of the spectrogram, a multiple of 16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--small", action="store_true", help="a tiny trunk and small inputs; nothing is written"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "zorro_throughput.json")
    given = parser.parse_args()
    about = circumstances("zorro_throughput")
    trunk = ViTTrunk(2, 64, 4, 256) if given.small else ViTTrunk()
    image, frames, sound = (32, 4, 64) if given.small else (given.image, given.frames, given.sound)
    config = ZorroConfig({"video": Video(frames, image, image), "audio": Spectrogram(sound, 128)}, trunk)
    result = (
        about
        | {"image": image, "frames": frames, "sound": sound}
        | measure(config, given.batch, given.repeats)
    )
    for what in ("forward", "training"):
        row = result[what]
        print(
            f"{what}: {row['examples_per_second']} examples/s, PyTorch {row['torch_examples_per_second']}, "
            f"ratio {row['ratio']}, {row['share_of_matmul_peak']:.0%} of the matrix-multiply peak"
        )
    if not given.small:
        write(given.out, result)


if __name__ == "__main__":
    main()
