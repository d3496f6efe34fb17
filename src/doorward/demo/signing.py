"""Chapter four: the model folder is signed; one changed byte is found out.

::

    part = tell(story)      # marked.model/model.sig
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from doorward.bundles import Identity, check_folder, sign_folder
from doorward.demo.story import Part, Story
from doorward.errors import IntegrityError
from doorward.reporting import Code, Section, Verdict

__all__ = ["tell"]


def tell(story: Story) -> Part:
    """Sign the marked model, check it, and check a copy with one byte changed."""
    owner: Identity = story.shelf["owner"]
    folder = story.place / "marked.model"
    sign_folder(folder, owner)
    owner.public.save_pem(story.place / "owner.pem")
    files = check_folder(folder, owner.public)
    caught = _change_is_caught(folder, owner)
    shown = story.shown
    section = Section(
        "Is it the file that the owner signed?",
        (
            Verdict("Is the folder what the owner signed?", True, detail=", ".join(files)),
            Verdict(
                "Is a copy accepted in which one byte was changed?",
                not caught,
                good=caught,
                detail="the changed file is named" if caught else "",
            ),
            Code(
                f"doorward check {shown}/marked.model --public {shown}/owner.pub.json\n"
                f"model_signing verify key {shown}/marked.model "
                f"--signature {shown}/marked.model/model.sig --public_key {shown}/owner.pem",
                caption="Anybody can check it, with Doorward or with the OpenSSF tool",
            ),
        ),
        summary="The owner signs the model folder in the OpenSSF model-signing format, so whoever "
        "downloads it can tell that nobody changed it.",
    )
    return Part(
        key=None,
        summary={},
        section=section,
        promises={"a changed model file is found out": caught},
    )


def _change_is_caught(folder: Path, owner: Identity) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(folder, Path(scratch, "copy"))
        weights = copy / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        try:
            check_folder(copy, owner.public)
        except IntegrityError:
            return True
    return False
