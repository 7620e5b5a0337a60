"""Networks, losses and the one supervised training loop: arrays in, arrays out."""

from . import checkpoints as checkpoints
from . import clip as clip
from .attention import attention as attention
from .checkpoints import CheckpointError as CheckpointError
from .layers import FeedForward as FeedForward
from .layers import Norm as Norm
from .metrics import MetricsLogger as MetricsLogger
from .metrics import read_metrics as read_metrics
from .optimisation import adamw as adamw
from .optimisation import warmup_cosine as warmup_cosine
from .positions import rotary as rotary
from .progress import Progress as Progress
from .training import NonFiniteLossError as NonFiniteLossError
from .training import TrainConfig as TrainConfig
from .training import TrainState as TrainState
from .training import load_params as load_params
from .training import train as train
from .transformer import CACHE_AXES as CACHE_AXES
from .transformer import Cache as Cache
from .transformer import Transformer as Transformer
from .transformer import TransformerConfig as TransformerConfig
from .transformer import empty_cache as empty_cache
