"""Algorithm Distillation: window sampler, model, in-context evaluation, reports."""

from ._types import Evaluation as Evaluation
from .agent import InContextAgent as InContextAgent
from .agent import in_context_agent as in_context_agent
from .compare import compare as compare
from .distil import distil as distil
from .distil import distillation_loss as distillation_loss
from .distil import environment_network as environment_network
from .evaluation import CONTROLS as CONTROLS
from .evaluation import Control as Control
from .evaluation import evaluate as evaluate
from .hosted import evaluate_hosted as evaluate_hosted
from .loading import DistilledAgent as DistilledAgent
from .loading import export as export
from .loading import load as load
from .model import PRESETS as PRESETS
from .model import Inputs as Inputs
from .model import ModelConfig as ModelConfig
from .player import Player as Player
from .report import summary_lines as summary_lines
from .report import write_report as write_report
from .statistics import strata as strata
from .statistics import stratified_bootstrap as stratified_bootstrap
from .windows import WindowConfig as WindowConfig
from .windows import WindowSampler as WindowSampler
