"""What the name of an open_clip model stands for, and the traps of names that open_clip lets pass."""

import difflib
import os
import pathlib
import warnings
from types import ModuleType
from typing import Any, NamedTuple

from ._clip_files import hub_snapshot, read_local_dir


FORMS = (
    "local-dir:PATH, hf-hub:ORG/REPO, ARCHITECTURE@TAG (weights that open_clip knows) or ARCHITECTURE@FILE"
)


class ClipSource(NamedTuple):
    """What open_clip is asked for.

    Attributes:
      model: its `model_name`.
      pretrained: its `pretrained`, a tag or a file; None where the model's folder has the weights.
      tokenizer: the name under which it finds the tokenizer.
      config: `model_cfg`.
      directory: the model's folder; None for an architecture that open_clip knows.
    """

    model: str
    pretrained: str | None
    tokenizer: str
    config: dict[str, Any]
    directory: pathlib.Path | None


def resolve(name: str, open_clip: ModuleType) -> ClipSource:
    """Finds a model by name. Weights in folders and files are looked for, those of tags are not fetched yet.

    Raises:
      ValueError: the name is none of the forms, names no architecture or tag that open_clip knows, or a tag whose
        activation is not the architecture's.
      FileNotFoundError: a folder or file is missing.
      OSError: the hub does not answer and the cache has not the model.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "local-dir":
        return _folder(read_local_dir(rest).path)
    if scheme == "hf-hub":
        source = _folder(hub_snapshot(rest))
        # A Hugging Face tokenizer lies in a repository of its own, which the configuration names.
        foreign = source.config.get("text_cfg", {}).get("hf_tokenizer_name")
        return source._replace(tokenizer=name) if foreign else source
    architecture, _, weights = name.partition("@")
    if not weights:
        raise ValueError(
            f"{name!r} names no weights, and without them embeddings would be random. Expected {FORMS}."
        )
    # open_clip writes "ViT-B-32" for OpenAI's "ViT-B/32".
    architecture = architecture.replace("/", "-")
    config = open_clip.get_model_config(architecture)
    if config is None:
        close = difflib.get_close_matches(architecture, open_clip.list_models(), 4, 0.5)
        raise ValueError(
            f"open_clip knows no architecture {architecture!r}{'; close: ' + ', '.join(close) if close else ''}. "
            f"Expected {FORMS}."
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tag = open_clip.get_pretrained_cfg(architecture, weights)
    if tag:
        _refuse_other_activation(architecture, weights, config, tag, open_clip)
    elif os.path.isfile(weights):
        _warn_of_file(architecture, weights, tags, open_clip)
    elif os.path.isdir(weights):
        raise ValueError(f"{weights} is a folder: its name is local-dir:{weights}, without an architecture.")
    else:
        known = f"tags of {architecture}: {', '.join(tags)}" if tags else f"{architecture} has no tags"
        raise FileNotFoundError(f"{weights!r} is neither a file nor a tag ({known}).")
    return ClipSource(architecture, weights, architecture, config, None)


def _folder(directory: pathlib.Path) -> ClipSource:
    local = f"local-dir:{directory}"
    return ClipSource(local, None, local, read_local_dir(directory).config["model_cfg"], directory)


def _refuse_other_activation(architecture: str, tag: str, config: dict, about: dict, open_clip) -> None:
    trained, built = bool(about.get("quick_gelu")), bool(config.get("quick_gelu"))
    if trained == built:
        return
    other = f"{architecture}-quickgelu" if trained else architecture.removesuffix("-quickgelu")
    hint = f": use {other}@{tag}" if other in open_clip.list_models() else ""
    raise ValueError(
        f"The weights {tag!r} were trained with {'QuickGELU' if trained else 'GELU'}, and {architecture} has "
        f"{'QuickGELU' if built else 'GELU'}; open_clip would load them and give wrong embeddings{hint}."
    )


def _warn_of_file(architecture: str, file: str, tags: list[str], open_clip) -> None:
    """A file of weights says neither its activation nor its preprocessing: says so where there is more than one."""
    doubts = []
    if f"{architecture}-quickgelu" in open_clip.list_models():
        doubts.append(
            f"weights by OpenAI, MetaCLIP and some of DFN's need {architecture}-quickgelu@{file}, which has their "
            "activation"
        )
    keys = ("mean", "std", "interpolation", "resize_mode")
    kinds = {str([open_clip.get_pretrained_cfg(architecture, tag).get(key) for key in keys]) for tag in tags}
    if len(kinds) > 1:
        doubts.append(
            f"frames are prepared as OpenAI's models want them, and {architecture}'s weights do not all want that"
        )
    if doubts:
        warnings.warn(
            f"A file of weights does not say what it was trained with: {'; '.join(doubts)}. To be sure, use a folder "
            "with open_clip_config.json (local-dir:PATH).",
            UserWarning,
            stacklevel=4,
        )
