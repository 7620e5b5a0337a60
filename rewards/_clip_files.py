"""Where the weights of a CLIP model lie: folders in open_clip's form, and the Hugging Face hub's cache."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple


CONFIG = "open_clip_config.json"

# open_clip's own order; what is not named here is taken only where it is alone.
_PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".bin", ".pth")


class LocalDir(NamedTuple):
    """A folder with a model: its `path`, the `config` that open_clip_config.json holds, the file of its `weights`."""

    path: pathlib.Path
    config: dict[str, Any]
    weights: pathlib.Path


def read_local_dir(path: str | os.PathLike[str]) -> LocalDir:
    """Looks through a folder in open_clip's form; the weights are found, not read.

    Raises:
      FileNotFoundError: there is no such folder, or no open_clip_config.json or no weights in it.
      ValueError: the configuration is not one of open_clip's, or it is not clear which file holds the weights.
    """
    directory = pathlib.Path(path).expanduser()
    if not directory.is_dir():
        hint = " It is a file: name the folder that it lies in." if directory.exists() else ""
        raise FileNotFoundError(
            f"There is no folder {directory}.{hint} A model is a folder with {CONFIG} and a .safetensors file."
        )
    file = directory / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{directory} has no {CONFIG}, which says how the model is made and how frames are prepared for it. "
            "open_clip.push_to_hf_hub.save_for_hf writes both files; weights in the form of Hugging Face's "
            "transformers must be converted first."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise ValueError(
            f"{file} has no 'model_cfg': it is not open_clip's, whose keys are model_cfg and preprocess_cfg."
        )
    return LocalDir(directory, config, _weights_in(directory))


def _weights_in(directory: pathlib.Path) -> pathlib.Path:
    files = {file.name: file for file in sorted(directory.iterdir()) if file.suffix in _SUFFIXES}
    for name in _PREFERRED:
        if name in files:
            return files[name]
    if not files:
        raise FileNotFoundError(
            f"{directory} has no weights: no file ends in {', '.join(_SUFFIXES)}. A model without weights would give "
            "random embeddings; put the checkpoint there, best as open_clip_model.safetensors."
        )
    if len(files) > 1:
        raise ValueError(
            f"{directory} has several checkpoints ({', '.join(files)}); name the right one open_clip_model.safetensors."
        )
    return next(iter(files.values()))


def bpe_file(config: Mapping[str, Any], directory: pathlib.Path | None) -> pathlib.Path | None:
    """The vocabulary that a `model_cfg` names among its `tokenizer_kwargs`; a relative one is in the model's folder."""
    path = ((config.get("text_cfg") or {}).get("tokenizer_kwargs") or {}).get("bpe_path")
    return None if path is None else (directory or pathlib.Path()) / path


def hub_snapshot(repository: str) -> pathlib.Path:
    """The folder of a hub repository's model in the cache, downloaded only where the cache has it not.

    A copy in the cache is used without asking the hub: it works offline, and a reward model does not change by itself.

    Args:
      repository: ORG/REPO.

    Raises:
      ValueError: not such a name.
      OSError: it is neither in the cache nor to be had.
    """
    import huggingface_hub

    try:
        huggingface_hub.utils.validate_repo_id(repository)
    except ValueError as error:
        raise ValueError(f"A hub model is named hf-hub:ORG/REPO, got {repository!r}: {error}") from error
    config = _cached(repository, CONFIG) or _download(repository, CONFIG)
    names = [name for name in _PREFERRED if name.startswith("open_clip")]
    if not any(_cached(repository, name) for name in names):
        for name in names:
            try:
                _download(repository, name)
                break
            except FileNotFoundError:
                if name == names[-1]:
                    raise
    return config.parent


def _cached(repository: str, name: str) -> pathlib.Path | None:
    import huggingface_hub

    path = huggingface_hub.try_to_load_from_cache(repository, name)
    return pathlib.Path(path) if isinstance(path, str) else None


def _download(repository: str, name: str) -> pathlib.Path:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(repository, name))
    # The hub's client raises errors of several libraries.
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise FileNotFoundError(
                f"hf-hub:{repository} has no {name}: it is not a model in open_clip's form."
            ) from error
        raise OSError(
            f"hf-hub:{repository} is not in the cache ({huggingface_hub.constants.HF_HUB_CACHE}) and could not be "
            f"fetched: {' '.join(str(error).split())[:300]} Where there is no network, run `hf download {repository}` "
            "on a machine that has one, copy the folder that it prints, and name it local-dir:PATH."
        ) from error
