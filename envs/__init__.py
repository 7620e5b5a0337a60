"""Worlds: pure-JAX environments and host adapters."""

from ._types import FIRST as FIRST
from ._types import LAST as LAST
from ._types import MID as MID
from ._types import Environment as Environment
from ._types import Task as Task
from ._types import restart as restart
from ._types import transition as transition
from .autoreset import AutoReset as AutoReset
from .autoreset import AutoResetState as AutoResetState
from .dark_room import DarkRoom as DarkRoom
from .dark_room import DarkRoomState as DarkRoomState
