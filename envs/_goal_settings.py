"""Settings that every environment with goals in words has: what is observed, and what pays."""

from collections.abc import Sequence


def check_views(views: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The keys to observe, of those known. Raises ValueError for others, or for none."""
    chosen = (views,) if isinstance(views, str) else tuple(views)
    if not chosen or set(chosen) - set(known):
        raise ValueError(f"views are one or more of {', '.join(known)}, got {chosen!r}.")
    return chosen


def check_reward(reward: str) -> str:
    """`true`, or `none`, where a reward model pays. Raises ValueError for another."""
    if reward not in ("true", "none"):
        raise ValueError(f"reward is 'true' or 'none', got {reward!r}.")
    return reward
