"""Settings that several environments have: what is observed, and what pays."""

from collections.abc import Sequence


def check_views(views: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The keys to observe, of those known. Raises ValueError for others, or for none.

    Several may be one string with commas between, as on a command line.
    """
    chosen = tuple(views.split(",") if isinstance(views, str) else views)
    if not chosen or set(chosen) - set(known):
        raise ValueError(f"views are one or more of {', '.join(known)}, got {chosen!r}.")
    return chosen


def check_reward(reward: str) -> str:
    """`true`, or `none`, where a reward model pays. Raises ValueError for another."""
    if reward not in ("true", "none"):
        raise ValueError(f"reward is 'true' or 'none', got {reward!r}.")
    return reward
