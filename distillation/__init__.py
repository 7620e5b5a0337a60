"""Algorithm Distillation: window sampler, model, in-context evaluation, reports."""
