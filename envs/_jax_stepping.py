"""Host adapters of one pure-JAX environment that are stepped together, in one compiled call."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._host import Host, begin_streams, conform_action, reset_streams, step_streams, to_numpy
from ._jax_to_dm_env import JaxToDmEnv
from ._stepping import Stepped
from ._types import LAST
from .hosted import Hosted


def hosts_of(environments: Sequence[Any]) -> list[Host] | None:
    """What the adapters of equal pure-JAX environments step; None where there are others among them.

    Adapters inside any other wrapper are others: what the wrapper does would be passed over.
    """
    hosts = []
    for environment in environments:
        adapter = environment.adapter if type(environment) is Hosted else environment
        if type(adapter) is not JaxToDmEnv:
            return None
        hosts.append(adapter.host)
    return hosts if all(host.environment == hosts[0].environment for host in hosts) else None


class JaxStepping:
    """Steps N hosts in one call, each with its own key: the episodes are those that it would play by itself.

    The environments are those of the streams from here on: one that is stepped by itself as well begins an episode
    anew.
    """

    def __init__(self, hosts: Sequence[Host]):
        self._hosts, self._environment = list(hosts), hosts[0].environment
        self._spec = self._environment.action_spec()
        self._tasks = jax.tree.map(lambda *tasks: jnp.stack(tasks), *(host.task for host in hosts))
        self._keys = jnp.stack([host.key for host in hosts])
        self._states: Any = None
        self._succeeded: Any = None

    def reset(self) -> Any:
        """Begins an episode everywhere; the observations `[N, …]`."""
        self._keys, self._states, timestep = reset_streams(self._environment, self._keys, self._tasks)
        self._note_tasks(range(len(self._hosts)))
        return to_numpy(timestep.observation)

    def step(self, actions: np.ndarray) -> Stepped:
        """See `OneByOne`."""
        actions = conform_action(self._spec, actions, (len(self._hosts),))
        self._keys, self._states, timestep, shown, succeeded = step_streams(
            self._environment, self._keys, self._tasks, self._states, actions
        )
        self._succeeded = succeeded
        kinds, rewards, discounts, shown = to_numpy((*timestep[:3], shown))
        ended = np.flatnonzero(kinds == LAST)
        if not len(ended):
            return Stepped(kinds, rewards, discounts, shown, shown, {})
        successes = {}
        if succeeded is not None:
            successes = {int(i): bool(succeeded[i]) for i in ended}
            for i, success in successes.items():
                self._hosts[i].success = success
        self._note_tasks(ended)
        return Stepped(kinds, rewards, discounts, to_numpy(timestep.observation), shown, successes)

    def success_so_far(self, i: int) -> bool:
        """See `OneByOne`."""
        return self._succeeded is not None and bool(self._succeeded[i])

    def begin(self, which: np.ndarray, shown: Any) -> Any:
        """See `OneByOne`."""
        chosen = np.isin(np.arange(len(self._hosts)), which)
        self._keys, self._states, shown = begin_streams(
            self._environment, self._tasks, chosen, self._keys, self._states, shown
        )
        self._note_tasks(which)
        return to_numpy(shown)

    def _note_tasks(self, begun: Any) -> None:
        """Tells the hosts whose episode has begun which task it has."""
        task_in = getattr(self._environment, "task_in", None)
        if task_in is None:
            return
        tasks = to_numpy(task_in(self._states))
        for i in begun:
            self._hosts[i].episode_task = jax.tree.map(lambda leaf, i=i: leaf[i], tasks)
