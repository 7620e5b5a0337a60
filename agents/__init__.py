"""Source reinforcement learning: pure agents, compiled training, learning histories."""

from ._exchange import export_minari as export_minari
from ._exchange import export_npz as export_npz
from ._exchange import import_minari as import_minari
from ._exchange import import_npz as import_npz
from ._exchange import show as show_histories
from ._types import EVALUATE as EVALUATE
from ._types import EXPLORE as EXPLORE
from ._types import Agent as Agent
from ._types import Trajectory as Trajectory
from .histories import HistoryError as HistoryError
from .histories import HistoryInfo as HistoryInfo
from .histories import HistoryReader as HistoryReader
from .histories import HistoryWriter as HistoryWriter
from .histories import Manifest as Manifest
from .histories import split_blocks as split_blocks
from .streams import Streams as Streams
from .streams import load_streams as load_streams
from .transport import open_transport as open_transport
