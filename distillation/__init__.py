"""Algorithm Distillation: window sampler, model, in-context evaluation, reports."""

from ._types import Evaluation as Evaluation
from .compare import compare as compare
from .report import summary_lines as summary_lines
from .report import write_report as write_report
