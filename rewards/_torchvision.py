"""The one place that imports open_clip.

torchvision's wheel on PyPI carries CUDA operators. Beside a CPU build of torch its extension cannot be loaded, and
`import torchvision` then dies, because it registers shape rules for the operators `torchvision::nms` and
`torchvision::qnms`, which nobody has declared (pytorch/vision issues 9077 and 9085). open_clip imports torchvision for
its image transforms and calls neither operator: declaring the two is enough. It is done only after the import has
failed in just this way, so that a torchvision that fits its torch is left as it is.
"""

from types import ModuleType


_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_open_clip() -> ModuleType:
    """`open_clip`, also beside a torchvision whose operators cannot be loaded.

    Raises:
      ImportError: where the `clip` extra is not installed, or is and does not work.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"CLIP in PyTorch needs the extra `clip`: pip install 'limbeck[clip]' ({error})"
        ) from error
    try:
        import torchvision as torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise ImportError(f"torchvision does not fit torch {torch.__version__}: {error}") from error
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", _SCHEMA)
    except ImportError as error:
        raise ImportError(f"open_clip needs torchvision: pip install 'limbeck[clip]' ({error})") from error
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"open_clip does not import: pip install 'limbeck[clip]' ({error})") from error
    return open_clip


def clip_versions() -> str:
    """What `import_open_clip` finds, and whether torchvision's operators had to be declared for it.

    Raises:
      ImportError: as `import_open_clip`.
    """
    open_clip = import_open_clip()
    import torch
    import torchvision

    # Its own name, since no public one says whether the extension was loaded.
    whole = torchvision.extension._has_ops()
    versions = ", ".join(
        f"{module.__name__} {module.__version__}" for module in (open_clip, torch, torchvision)
    )
    return (
        versions if whole else f"{versions} (whose operators do not load beside this torch; CLIP needs none)"
    )
