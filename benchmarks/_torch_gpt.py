"""The peer of distillation: a plain PyTorch GPT of the same size, tokens and window, and its training step.

Pre-norm blocks, ReLU, one token a step from the same embeddings, the same causal band. It differs from
Limbeck's network in its positions only: a learned table, which costs less than rotary ones.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.relu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """Action logits `[B, T, actions]` of Dark Room streams."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        length: int,
        window: int,
        side: int,
        actions: int,
        steps: int,
    ):
        super().__init__()
        self.side = side
        self.cell = nn.Embedding(side * side, width)
        self.axes = nn.ModuleList(nn.Embedding(side, width) for _ in range(2))
        self.action, self.step = nn.Embedding(actions + 1, width), nn.Embedding(steps, width)
        self.reward, self.position = nn.Linear(1, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, actions)
        behind = torch.arange(length)[:, None] - torch.arange(length)[None]
        self.register_buffer("mask", (behind >= 0) & (behind < window))

    def forward(self, cell: Any, action: Any, reward: Any, step: Any) -> torch.Tensor:
        x = self.cell(cell[..., 0] + self.side * cell[..., 1])
        x = x + sum(table(cell[..., axis]) for axis, table in enumerate(self.axes))
        x = x + self.action(action) + self.reward(reward[..., None]) + self.step(step) + self.position.weight
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


def trainer(model: GPT, sampler: Callable[[int], Any], threads: int) -> Callable[[int], float]:
    """`run(updates) -> seconds`: AdamW with clipping on the sampler's batches, each update from a fresh batch."""
    torch.set_num_threads(threads)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.01, fused=True
    )

    def run(updates: int) -> float:
        started = time.perf_counter()
        for i in range(updates):
            batch = sampler(i)
            fields = (torch.from_numpy(x) for x in batch.inputs)
            cell, action, reward, step = fields
            logits = model(cell.long(), action.long(), reward, step.long())
            target, weight = torch.from_numpy(batch.action).long(), torch.from_numpy(batch.weight)
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            loss = (losses * weight.flatten()).sum() / weight.sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        return time.perf_counter() - started

    return run
