r"""``doorward trade trace``: whose key a leaked key is, or an unlocked copy was made with.

::

    doorward trade trace leaked.opened --trial digits.trial --secret digits.trial.lock \
        --buyer bob.receiver.json --buyer eve.receiver.json --identity ada.key
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.trade.group import group
from doorward.cli.trade.options import IdentityFile

if TYPE_CHECKING:
    from torch import nn

    from doorward.bundles import PublicIdentity
    from doorward.trading import MaskBank

__all__ = ["trace"]


@group.command(
    epilog="Example: doorward trade trace leaked.opened --trial digits.trial --secret "
    "digits.trial.lock --buyer bob.receiver.json --identity ada.key"
)
def trace(
    leak: Annotated[
        Path, typer.Argument(help="An opened key, or the bundle of an unlocked copy.", exists=True)
    ],
    trial: Annotated[Path, typer.Option(help="The trial that was sold.")],
    secret: Annotated[Path, typer.Option(help="The folder with its masks and trigger.")],
    buyer: Annotated[
        list[Path],
        typer.Option(
            help="A buyer: the file from doorward trade receiver, or a public identity; repeat it "
            "for all buyers of this trial."
        ),
    ],
    identity: IdentityFile,
    alpha: Annotated[
        float, typer.Option(help="Chance to accuse anybody who is innocent.", min=1e-300, max=0.1)
    ] = 1e-6,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Compare a leak with the marks of all buyers; exit code 1 when it names nobody.

    Under the null hypothesis that it was made for somebody else, every readable sign agrees with
    chance one half: the p-value is exact, and counts that all buyers are asked about. A pirate who
    adds noise of the marks' own size, or two who average their keys, can get away.
    """
    from doorward.bundles import Identity
    from doorward.trading import MaskBank
    from doorward.trading.keys import accuse, buyer_code, weights_digest
    from doorward.trading.trials import open_trial

    model = open_trial(trial, trust_factory=trust_factory).model
    bank = MaskBank.load(secret / "masks.bank")
    buyers = {found.fingerprint: found for found in map(_identity, buyer)}
    leaked = _masks(leak, model, bank, trust_factory)
    who = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    master, sold = who.derive("trade marks"), weights_digest(model)
    codes = {name: buyer_code(master, sold, name) for name in buyers}
    matches = accuse(leaked, bank, codes, alpha=alpha)
    named = [match for match in matches if match.accused]
    rows = [
        [buyers[m.buyer].name, m.buyer[:16], f"{m.agreements} of {m.signs}", f"{m.p_value:.3g}"]
        for m in matches
    ]
    verdict = "made for " + ", ".join(buyers[match.buyer].name for match in named)
    answer(
        {"leak": str(leak), "alpha": alpha, "matches": [match.to_dict() for match in matches]},
        as_json=as_json,
        yes=bool(named),
        lines=[
            table(["buyer", "fingerprint", "signs that agree", "p-value"], rows),
            verdict if named else f"It names nobody at p <= {alpha:g}.",
        ],
    )


def _identity(path: Path) -> PublicIdentity:
    from doorward.bundles import PublicIdentity
    from doorward.bundles.documents import read_object
    from doorward.trading import Receiver

    document = read_object(path)
    return Receiver.of(document).identity if "signer" in document else PublicIdentity.load(path)


def _masks(leak: Path, trial: nn.Module, bank: MaskBank, trust_factory: bool) -> MaskBank:
    """The masks in an opened key, or those that are in an unlocked copy."""
    from doorward.bundles import open_model
    from doorward.bundles.documents import read_limited
    from doorward.trading import OpenedKey
    from doorward.trading.keys import read_masks

    if leak.is_file():
        return OpenedKey.from_bytes(read_limited(leak, 2**31)).bank
    return read_masks(open_model(leak, trust_factory=trust_factory), trial, bank)
