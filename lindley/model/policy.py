"""The policy of a chain: how its beliefs are matched, kept exact, forgotten and refitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lindley.errors import DeclarationRefused

#: All carried variables that no other group names.
REST = "*"
#: Rows that an earlier batch counts as beside its own: what it takes to fetch it.
BATCH_COST = 10
#: Rows that hindsight looks back on at most, as a multiple of those that an update fits.
SIGHT = 10
FAMILIES = ("auto", "normal", "sinh-arcsinh", "triangular", "information", "mixture")


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """How the belief about a group of carried variables widens before each batch.

    The power prior: the covariance of the group is divided by a discount in (0, 1], correlations stay
    (West & Harrison 1997, Bayesian Forecasting and Dynamic Models, section 6.3). Exactly one of the
    three ways gives the discount.

    Parameters
    ----------
    discount
        The same for every batch.
    half_life
        Time in which a belief loses half its precision, e.g. ``"90D"`` (pandas' notation): the discount
        of a batch is 2^(-elapsed / half_life), by the newest time of this batch and of all before.
    grid
        Discounts to choose from: before each batch the belief widens by the one that predicted the earlier
        batches best, by the sum of their log predictive densities.
    time
        Column with the times for `half_life`.
    """

    discount: float | None = None
    half_life: str | None = None
    grid: tuple[float, ...] = ()
    time: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that give no discount, or more than one."""
        ways = [self.discount is not None, self.half_life is not None, bool(self.grid)]
        values = [*self.grid, *([] if self.discount is None else [self.discount])]
        if sum(ways) != 1 or not all(0 < value <= 1 for value in values):
            raise _refused(
                self,
                expected="one of discount, half_life and grid; discounts above 0 and at most 1",
                todo="give one of the three",
            )
        if (self.half_life is None) != (self.time is None):
            raise _refused(
                self,
                expected="half_life together with the column `time` that it goes by",
                todo="name the column, or leave both out",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings that are given, as JSON-able values."""
        given = vars(self) | {"grid": list(self.grid) or None}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Window:
    """How many earlier batches one update may fit again together with a new one.

    Parameters
    ----------
    rows
        `Policy.refit_rows`.
    batches
        `Policy.replay`; 0 for none at all.
    """

    rows: int
    batches: int

    @property
    def sight(self) -> int:
        """Rows at most that hindsight looks back on.

        Evaluating 2,000 draws takes about a fortieth of the gradients that sampling the same rows takes: a
        look back of this length costs at most a quarter of a fit of `rows`.
        """
        return SIGHT * self.rows

    def holds(self, rows: int, batches: int, apart: bool) -> bool:
        """Whether an update may fit so many batches again.

        Parameters
        ----------
        rows
            Rows of all batches that are fitted, the new one included.
        batches
            Number of the earlier ones.
        apart
            Whether they are fitted one by one.
        """
        within = self.batches > 0 and rows + BATCH_COST * batches <= self.rows
        return batches == 0 or (within and (batches <= self.batches or not apart))

    def stretches_to(self, rows: int, batches: int, apart: bool) -> bool:
        """Whether it may where the match is not trusted, or did harm, behind which it would start."""
        twice = Window(2 * self.rows, self.batches)
        return batches <= self.batches or twice.holds(rows, batches, apart)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a chain carries its beliefs forward.

    Parameters
    ----------
    family
        Matching family: ``auto`` picks per link; ``normal``, ``sinh-arcsinh``, ``triangular`` or
        ``information`` (additive precision) are used as asked.
    refit_rows
        Rows at most that one update fits, the new batch included: as long as a chain has no more, every
        update is the pooled fit of all its batches, and beyond it a match is made once for so many rows. Each
        earlier batch counts as `BATCH_COST` rows more, since it must be fetched.
    replay
        Number of earlier batches at most that are fitted again where batches must be fitted one by one
        (local variables, carried state, labels that change), and of those that are fitted again beyond
        `refit_rows` because the match after them is not trusted or did harm. With 0 a fit always starts from
        the head's match, trusted or not; so do chains with forgetting or a robust mixture.
    rebase_every
        Number of links after which a pooled refit follows automatically; never by default.
    rebase_at_budget
        Budget above which a pooled refit follows automatically; never by default, the gate warns.
    rebase_at_drift
        Drift, in sds, from which on one follows, and the error expected of matches that cannot be measured;
        one also follows at 1, 2, 4, ... such matches, and measures them. None for never. It has no effect on
        a chain that forgets.
    rebase_rows
        Rows at most that a refit which follows automatically fits; a chain that has more gets a warning.
    robust
        Weight of the genesis prior in a mixture with the matched one: a batch that conflicts with the
        chain's belief can then win (Schmidli et al. 2014, Biometrics 70:1023). 0 is the matched prior alone.
    conflict
        Treatment of a batch that conflicts with the belief before it: ``warn``, or ``quarantine``.
    join_quarantined
        Whether a quarantined batch joins the fit of a later update by itself. One that was refused because it
        conflicts does not. Nor does any where no batch is fitted again (`replay` of 0, forgetting, a robust
        mixture).
    approve
        Which fits a person has to approve before they become the head: ``never`` any, those of batches that
        ``conflict`` with the belief before them, or ``always`` all. A fit that the gate refuses is
        quarantined in any case.
    approve_next
        What becomes of a batch that comes while a candidate waits for a decision: it has to ``wait`` in the
        landing folder, or is fitted on the same head (``continue``). It always waits where each batch
        continues from the one before.
    retries
        How often a fit that the gate refuses is sampled again before its batch is quarantined: longer, with
        smaller steps, from another start. Also how often one that has too few effective draws is (`ess`).
    ess
        Effective draws that every fit should have, of the coordinate that has the fewest: a fit with fewer
        is sampled again with more draws. The gate refuses below its own threshold.
    sampler
        ``nuts``, or ``auto``: independent draws around the mode where importance weights certify them
        (docs/adr/0057-certified-approximation.md), and NUTS where not. A declaration takes ``auto`` for the
        members of a panel by default, and ``nuts`` otherwise.
    forget
        Forgetting by carried variable; `REST` means those that are not named.
    """

    family: str = "auto"
    refit_rows: int = 5000
    replay: int = 12
    rebase_every: int | None = None
    rebase_at_budget: float | None = None
    rebase_at_drift: float | None = 0.1
    rebase_rows: int = 100_000
    robust: float = 0.0
    conflict: Literal["warn", "quarantine"] = "warn"
    join_quarantined: bool = True
    approve: Literal["never", "conflict", "always"] = "never"
    approve_next: Literal["wait", "continue"] = "wait"
    retries: int = 2
    ess: int = 400
    sampler: Literal["nuts", "auto"] | None = None
    forget: Mapping[str, Forgetting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        wrong = {
            f"family as one of {', '.join(FAMILIES)}": self.family not in FAMILIES,
            "refit_rows of at least 1": self.refit_rows < 1,
            "replay of at least 0": self.replay < 0,
            "rebase_every of at least 1": self.rebase_every is not None and self.rebase_every < 1,
            "rebase_at_budget above 0": self.rebase_at_budget is not None and not self.rebase_at_budget > 0,
            "rebase_at_drift above 0": self.rebase_at_drift is not None and not self.rebase_at_drift > 0,
            "rebase_rows of at least 0": self.rebase_rows < 0,
            "robust of at least 0 and below 1": not 0 <= self.robust < 1,
            "retries of at least 0": self.retries < 0,
            "ess of at least 1": self.ess < 1,
            "conflict as warn or quarantine": self.conflict not in ("warn", "quarantine"),
            "sampler as nuts or auto": self.sampler not in (None, "nuts", "auto"),
            "approve as never, conflict or always": self.approve not in ("never", "conflict", "always"),
            "approve_next as wait or continue": self.approve_next not in ("wait", "continue"),
        }
        for expected, is_wrong in wrong.items():
            if is_wrong:
                raise _refused(self, expected=expected, todo="correct it")
        if self.forget and (self.rebase_every is not None or self.rebase_at_budget is not None):
            raise _refused(
                self,
                expected="either forgetting or pooled refits: a pooled refit forgets nothing",
                todo="leave one of them out",
            )

    def sampled(self, *, panel: bool) -> Policy:
        """Return the policy with its sampler chosen: ``auto`` for a panel by default, otherwise ``nuts``."""
        return replace(self, sampler=self.sampler or ("auto" if panel else "nuts"))

    @property
    def refits(self) -> bool:
        """Whether pooled refits follow automatically."""
        limits = (self.rebase_every, self.rebase_at_budget, self.rebase_at_drift)
        return not self.forget and any(limit is not None for limit in limits)

    @property
    def window(self) -> Window:
        """How far back an update may start: nowhere with forgetting or a robust mixture."""
        return Window(self.refit_rows, 0 if self.forget or self.robust else self.replay)

    def as_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-able values; retries and ESS stand with the sampler's settings."""
        found = {name: value for name, value in vars(self).items() if name not in ("retries", "ess")}
        return found | {"forget": {name: group.as_dict() for name, group in self.forget.items()}}


@dataclass(frozen=True, kw_only=True)
class PanelPolicy:
    """How a panel treats its members beside what `Policy` says of each of them.

    Parameters
    ----------
    quarantine_from
        Fraction of the members in a batch from which on, when their fits fail the gate, the whole link is
        quarantined. With fewer, these members keep their belief and the others go on.
    new
        Where a member without a belief starts: at the ``model``'s own priors, or at the ``population``: a
        prior with the mean and the total covariance of the other members' beliefs.
    draws
        Draws of each member on the natural scale that a link keeps, evenly spaced; 0 for none. They can be
        drawn again from the recorded seed.
    """

    quarantine_from: float = 0.5
    new: Literal["model", "population"] = "model"
    draws: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        wrong = {
            "quarantine_from above 0 and at most 1": not 0 < self.quarantine_from <= 1,
            "new as model or population": self.new not in ("model", "population"),
            "draws of at least 0 and at most 4,000": not 0 <= self.draws <= 4000,
        }
        for expected, is_wrong in wrong.items():
            if is_wrong:
                raise _refused(self, expected=expected, todo="correct it")

    def as_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-able values."""
        return dict(vars(self))


def _refused(refused: Forgetting | Policy | PanelPolicy, *, expected: str, todo: str) -> DeclarationRefused:
    what = {Policy: "A policy", PanelPolicy: "The policy of a panel"}.get(type(refused), "Forgetting")
    what += " was refused"
    return DeclarationRefused(what, expected=expected, found=f"{refused}"[:300], todo=todo)
