"""Models on a hub, by huggingface_hub: an optional package that is imported only here."""

import re
from pathlib import Path
from types import ModuleType

from pgvae.checks import require
from pgvae.errors import InputError, one_line
from pgvae.inference.pretrained import FILES
from pgvae.snapshot import PRETRAINED

_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def is_repository(name: str) -> bool:
    """Whether it looks like OWNER/NAME.

    >>> [is_repository(name) for name in ("me/faces", "faces", "runs/a/b")]
    [True, False, False]
    """
    return _REPOSITORY.fullmatch(name) is not None


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload what `Model.save_pretrained` wrote to OWNER/NAME, made where it is not there.

    Other files of the folder stay here.
    -> its address. InputError without the package, without a folder of a model, or where the hub
    refuses.
    """
    _require_repository(repository)
    require(
        (folder / PRETRAINED).is_file(),
        f"{folder} has no {PRETRAINED}: write it by Model.save_pretrained",
    )
    hub = _package()
    try:
        made = hub.HfApi().create_repo(repository, private=private, exist_ok=True)
        hub.HfApi().upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[*FILES],
            commit_message="A model of pgvae",
        )
    except Exception as error:  # of any client and any network
        raise InputError(f"the hub did not take {repository}: {one_line(error)}") from error
    return str(made)


def pull(repository: str, revision: str | None = None) -> Path:
    """Download a model; -> the folder. InputError as `push`."""
    _require_repository(repository)
    hub = _package()
    try:
        found = hub.snapshot_download(
            repository, revision=revision, allow_patterns=["*.safetensors", "config.json"]
        )
    except Exception as error:
        raise InputError(f"the hub did not give {repository}: {one_line(error)}") from error
    return Path(found)


def _require_repository(name: str) -> None:
    require(is_repository(name), f"{name!r} is no repository of a hub: give OWNER/NAME")


def _package() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            "a hub needs the package huggingface_hub: pip install 'pgvae[hub]'"
        ) from error
    return huggingface_hub
