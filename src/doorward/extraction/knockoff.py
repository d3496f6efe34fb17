"""KnockoffNets: ask about images of a pool, drawn at random or by a bandit, train on the answers.

>>> KnockoffRandom()
KnockoffRandom()
>>> KnockoffAdaptive(rewards=("certainty", "diversity")).per_round
64

Orekondy, Schiele, Fritz (CVPR 2019), "Knockoff Nets: Stealing Functionality of Black-Box Models".
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor

from doorward.data import Augment
from doorward.errors import InvalidInput
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.metrics import predict
from doorward.records import STRICT
from doorward.training import FitResult, Recipe

__all__ = ["KNOCKOFF_RECIPE", "ClassBandit", "KnockoffAdaptive", "KnockoffRandom"]

KNOCKOFF_RECIPE = Recipe(
    epochs=100,
    batch_size=64,
    lr=0.01,
    momentum=0.5,
    nesterov=False,
    schedule="step",
    milestones=(0.6,),
    gamma=0.1,
)
"""How the authors' code trains: SGD without weight decay, from ImageNet weights in the paper."""

Reward = Literal["certainty", "diversity", "loss"]


@EXTRACTIONS.register("knockoff-random", paper="Orekondy et al. 2019", pool=True, chooses=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class KnockoffRandom(Extraction):
    """Random images of the pool, without replacement, until the budget or the pool is spent.

    Reproduced: the random policy and the soft-target cross-entropy. Where the authors start the
    pool again once it is exhausted, this one stops: the same question would bring the same answer.
    """

    def run(self, theft: Theft) -> FitResult:
        """Ask about as many images as the budget allows; train once."""
        return theft.train(theft.ask_pool(theft.shuffled()[: theft.victim.budget]))


@EXTRACTIONS.register("knockoff-adaptive", paper="Orekondy et al. 2019", pool=True, chooses=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class KnockoffAdaptive(Extraction):
    """Images of those classes of the pool whose answers are worth most, by a gradient bandit.

    The policy and the three rewards are the paper's (its public code leaves them out; the update
    is as in the Adversarial Robustness Toolbox, the window and the rescaling of rewards to [0, 1]
    as in a third-party digest of the paper). Ours: actions are drawn and learnt from `per_round`
    at a time, not one by one.

    Args:
        rewards: which rewards are averaged: ``"certainty"`` (the gap between the two largest
            probabilities), ``"diversity"`` (how far an answer lies above the mean of the last
            ones), ``"loss"`` (of the substitute, trained as it goes).
        per_round: images between two updates of the policy and the substitute.
        window: rewards that a new one is compared with.
        lr: of the substitute while it is trained as it goes.
    """

    rewards: Annotated[tuple[Reward, ...], Field(min_length=1)] = (
        "certainty",
        "diversity",
        "loss",
    )
    per_round: Annotated[int, Field(ge=1)] = 64
    window: Annotated[int, Field(ge=2)] = 100
    lr: Annotated[float, Field(gt=0)] = 0.01

    def run(self, theft: Theft) -> FitResult:
        """Explore with a substitute that learns as it goes; train the final one on everything."""
        if theft.pool.num_classes < 2:
            raise InvalidInput(
                f"the pool {theft.pool.name} has one class",
                why="the adaptive policy explores a pool class by class",
                remedy="take knockoff-random, or a pool with classes",
            )
        order = theft.shuffled()
        bandit = ClassBandit(theft.pool.labels.cpu()[order], theft.pool.num_classes)
        model, draw = theft.fresh(), theft.generator("actions")
        history: deque[dict[str, float]] = deque(maxlen=self.window)
        seen: deque[Tensor] = deque(maxlen=self.window)
        positions: list[Tensor] = []
        wanted = min(theft.victim.budget, len(theft.pool))
        while wanted:
            actions, places = bandit.draw(min(self.per_round, wanted), draw)
            chosen = order[places]
            stolen = theft.ask_pool(chosen)
            probabilities = _rows(stolen.answers, len(theft.classes))
            guesses = predict(model, stolen.source).log_softmax(1)
            losses = -(probabilities * guesses).sum(1)
            for action, row, loss in zip(actions, probabilities, losses.tolist(), strict=True):
                bandit.learn(action, self._reward(row, loss, history, seen))
            name = f"explore-{wanted}"
            theft.train(stolen, name=name, model=model, recipe=self._step(theft), brief=True)
            positions.append(chosen)
            wanted -= len(chosen)
        return theft.train(theft.ask_pool(torch.cat(positions)))

    def _step(self, theft: Theft) -> Recipe:
        """One small step of plain SGD on the newest answers."""
        return dataclasses.replace(
            KNOCKOFF_RECIPE,
            epochs=1,
            batch_size=self.per_round,
            lr=self.lr,
            schedule="constant",
            augment=Augment.none(),
            precision=theft.recipe.precision,
        )

    def _reward(
        self, row: Tensor, loss: float, history: deque[dict[str, float]], seen: deque[Tensor]
    ) -> float:
        """The mean of the rewards, each rescaled to [0, 1] within the window."""
        first, second = row.topk(2).values.tolist()
        mean = torch.stack(tuple(seen)).mean(0) if seen else torch.zeros_like(row)
        now = {
            "certainty": first - second,
            "diversity": (row - mean).clamp_min(0).sum().item(),
            "loss": loss,
        }
        history.append(now)
        seen.append(row)
        total = 0.0
        for name in self.rewards:
            low = min(entry[name] for entry in history)
            high = max(entry[name] for entry in history)
            total += (now[name] - low) / (high - low) if high > low else 0.5
        return total / len(self.rewards)


class ClassBandit:
    """A gradient bandit whose arms are classes of a pool, each with a stock of images.

    Args:
        labels: class of every image, int64 ``(N,)``, in the order they shall be taken.
        num_classes: number of arms.

    >>> bandit = ClassBandit(torch.tensor([0, 0, 1]), 2)
    >>> for _ in range(20): bandit.learn(1, 1.0); bandit.learn(0, 0.0)
    >>> bandit.policy()[1] > 0.9
    tensor(True)
    >>> actions, places = bandit.draw(3, torch.Generator().manual_seed(0))
    >>> sorted(places.tolist())          # class 1 has one image: then the other class is drawn from
    [0, 1, 2]
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        places = [(labels == arm).nonzero().flatten() for arm in range(num_classes)]
        self._stock = [mine.flip(0).tolist() for mine in places]  # taken from the end
        self._preference = torch.zeros(num_classes, dtype=torch.float64)
        self._count = torch.zeros(num_classes, dtype=torch.float64)
        self._mean, self._rewards = 0.0, 0

    def policy(self) -> Tensor:
        """Probability of each arm that has images left, float64 ``(num_classes,)``."""
        stocked = torch.tensor([bool(places) for places in self._stock])
        return self._preference.masked_fill(~stocked, -torch.inf).softmax(0)

    def draw(self, count: int, draw: Generator) -> tuple[list[int], Tensor]:
        """`count` arms, and an image's place for each, int64 ``(count,)``, never one twice."""
        actions, places = [], []
        for _ in range(count):
            action = int(torch.multinomial(self.policy(), 1, generator=draw))
            actions.append(action)
            places.append(self._stock[action].pop())
        return actions, torch.tensor(places)

    def learn(self, action: int, reward: float) -> None:
        """Raise the preference for an arm by how far its reward lies above the mean so far."""
        self._rewards += 1
        self._mean += (reward - self._mean) / self._rewards
        self._count[action] += 1
        step = (reward - self._mean) / self._count[action]
        share = self._preference.softmax(0)
        self._preference -= step * share
        self._preference[action] += step


def _rows(answers: Tensor, classes: int) -> Tensor:
    """Answers as rows of probabilities, one-hot for labels."""
    return answers if answers.is_floating_point() else F.one_hot(answers, classes).float()
