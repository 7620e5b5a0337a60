"""Contrastive losses that know which texts are true of which images. PyTorch.

Texts of a closed grammar are often true of several images of a batch. A loss that takes every other pair for a
negative punishes truth; these leave such pairs out, or count them as what they are.
"""

from typing import Any


def clip_loss(image: Any, text: Any, scale: Any, truth: Any) -> Any:
    """CLIP's symmetric cross-entropy (Radford et al. 2021, arXiv 2103.00020, figure 3), false negatives left out.

    Args:
      image: `[B, D]`, unit vectors.
      text: `[B + S, D]`, unit vectors; text i is image i's own, the last S are negatives only.
      scale: of the cosines, a scalar.
      truth: `[B + S, B]` bool, whether a text is true of an image.

    Returns:
      A scalar. Without negatives and with truth the identity it is open_clip's `ClipLoss`.
    """
    import torch

    count = image.shape[0]
    logits = scale * text @ image.T
    own = torch.eye(text.shape[0], count, dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(truth & ~own, float("-inf"))
    target = torch.arange(count, device=logits.device)
    by_image = torch.nn.functional.cross_entropy(logits.T, target)
    by_text = torch.nn.functional.cross_entropy(logits[:count], target)
    return (by_image + by_text) / 2


def siglip_loss(image: Any, text: Any, scale: Any, bias: Any, truth: Any) -> Any:
    """SigLIP's sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, algorithm 1) with the matrix of what is true.

    Args:
      image: `[B, D]`, unit vectors.
      text: `[B + S, D]`, unit vectors.
      scale: of the cosines.
      bias: of the logits.
      truth: `[B + S, B]` bool.

    Returns:
      The sum over pairs, over B. With truth the identity and no further texts it is open_clip's `SigLipLoss`.
    """
    import torch

    logits = scale * text @ image.T + bias
    signs = truth.to(logits.dtype) * 2 - 1
    return -torch.nn.functional.logsigmoid(signs * logits).sum() / image.shape[0]
