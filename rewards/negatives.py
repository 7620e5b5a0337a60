"""Lists of negatives for heads, fixed for a run."""

import random
from collections.abc import Callable, Hashable, Sequence

from .contract import RewardError


def sample_negatives(goals: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """Negatives drawn uniformly from the set of tasks, without repetition, as one list for all goals.

    Source: Baumli et al. 2024 (arXiv 2312.09187), section 3. The same arguments give the same list.

    Args:
      goals: the set of tasks.
      count: how many. One that equals a goal is left out for that goal.
      seed: of the draw.

    Raises:
      RewardError: there are fewer goals.
    """
    distinct = list(dict.fromkeys(goals))
    if not 1 <= count <= len(distinct):
        raise RewardError(f"count is from 1 to the {len(distinct)} different goals, got {count}")
    return tuple(random.Random(seed).sample(distinct, count))


def family_negatives(goals: Sequence[str], family: Callable[[str], Hashable]) -> dict[str, tuple[str, ...]]:
    """For each goal the other goals of its family, which exclude each other if the family is well chosen.

    Args:
      goals: the set of tasks.
      family: what of a goal its negatives share, such as the predicate.

    Returns:
      goal -> negatives, in the order of `goals`; none for a goal that is alone in its family.
    """
    distinct = list(dict.fromkeys(goals))
    families = {goal: family(goal) for goal in distinct}
    return {
        goal: tuple(other for other in distinct if other != goal and families[other] == families[goal])
        for goal in distinct
    }
