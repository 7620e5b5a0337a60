"""Algorithm Distillation: window sampler, model, in-context evaluation, reports."""

from ._types import Evaluation as Evaluation
