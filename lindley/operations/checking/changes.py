"""Whether the code of a model is that of the chain's head: its file, what it imports, what it builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lindley.batch.batch import Batch
from lindley.errors import ModelRefused
from lindley.ledger.chain import Chain, ChainLink, records_of
from lindley.ledger.lineage import in_context, maker_of, read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import Kind
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.model.structure import structure
from lindley.serving.inputs import neutral_frame

_TODO = "undo the change, or pass --accept-model-change: the new code is then recorded with the link"


def refuse_model_change(declaration: Declaration, record: dict[str, Any], chain: Chain) -> None:
    """Refuse a model whose code is not that of a record, the head's.

    Raises
    ------
    ModelRefused
        If it is not.
    """
    held, where = record["model"], _where(chain)
    what = f"The code of the model {declaration.name} changed since {where}"
    changed = list(_changed_modules(declaration, held))
    if held["digest"] != declaration.model_digest:
        beside = f" ({', '.join(changed)})" if changed else ""
        raise ModelRefused(
            what,
            expected=f"model digest {held['digest'][:12]}",
            found=f"{declaration.model_digest[:12]}{beside}",
            todo=_TODO,
        )
    again = list(_installed_again(declaration, held))
    if again:
        raise ModelRefused(
            what,
            expected="the code that was installed then, or another version",
            found=f"other code under the same version of {', '.join(again)}",
            todo=_TODO,
        )


class Planned(Protocol):
    """What is asked of a plan: `lindley.operations.plan.Plan`."""

    @property
    def declaration(self) -> Declaration:
        """The declaration of its chain."""
        ...

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of the carried variables."""
        ...

    @property
    def constants(self) -> dict[str, float]:
        """Frozen constants of preprocessing."""
        ...

    @property
    def chain(self) -> Chain:
        """The chain as it was read."""
        ...

    @property
    def batch(self) -> Batch | None:
        """The new link's own batch."""
        ...

    @property
    def batches(self) -> tuple[Batch, ...]:
        """What is fitted, oldest first."""
        ...


def compared_structure(
    ledger: Ledger, plan: Planned, record: dict[str, Any] | None
) -> tuple[str, tuple[str, ...]]:
    """Return the structure of the model that a plan fits, compared with the head's, and warnings.

    Equal code that builds another graph from the head's own rows depends on something else. That is only
    decided under equal versions; under others, it is a warning.

    Parameters
    ----------
    record
        The head's; None where a changed model is accepted, or there is none.

    Raises
    ------
    ModelRefused
        If the head's rows now make another model; or a model cannot be built from the plan's.
    """
    declaration = plan.declaration
    if declaration.in_memory or not plan.batches:
        return "", ()
    own = _structure(plan, plan.batch or plan.batches[-1])
    stated = record["model"].get("structure") if record else None
    if not record or not stated or stated == own:
        return own, ()
    found = _of_the_head(ledger, plan)
    if found == stated:  # the rows make the difference
        return own, ()
    other = sorted(_other_versions(declaration, record))
    where = _where(plan.chain)
    if other:
        return own, (
            f"the model's graph is not that of {where}, and it was made with other versions: "
            f"{', '.join(other)}; compare the two fits if its meaning may have changed",
        )
    raise ModelRefused(
        f"The model {declaration.name} is another one than at {where}, although its code is the same",
        expected=f"structure {stated[:12]} from the rows of {where}",
        found=found[:12] if len(found) == len(stated) else found,
        todo="find what the model depends on beside its rows (an environment variable, a file, a module that "
        "is imported by a computed name) and undo the change, or pass --accept-model-change: the new "
        "structure is then recorded with the link",
    )


def _changed_modules(declaration: Declaration, held: dict[str, Any]) -> Iterator[str]:
    """Describe the modules that differ from those of a record."""
    before, now = held.get("imports", {}).get("modules", {}), declaration.imports.digests
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"module {name} is not imported any more"
        elif name not in before:
            yield f"module {name} is new"
        elif before[name] != now[name]:
            yield f"module {name} changed"


def _installed_again(declaration: Declaration, held: dict[str, Any]) -> Iterator[str]:
    """Name the distributions that have other code under the version of a record."""
    before = held.get("imports")
    if before is None or not before["contents"]:
        return
    now = declaration.imports.as_dict()
    for name, digest in sorted(before["contents"].items()):
        version = before["distributions"].get(name)
        same_version = version is not None and now["distributions"].get(name) == version
        if same_version and now["contents"].get(name, digest) != digest:
            yield f"{name} {version}"


def _other_versions(declaration: Declaration, record: dict[str, Any]) -> Iterator[str]:
    """Name the libraries and distributions whose versions are not those of a record."""
    from lindley.ledger.bundle import libraries  # saves start-up time: only other code is compared

    before = {**record["model"]["imports"]["distributions"], **record["libraries"]}
    now = {**declaration.imports.as_dict()["distributions"], **libraries()}
    for name in before.keys() | now.keys():
        if before.get(name) != now.get(name):
            yield f"{name} {now.get(name, 'missing')} (then {before.get(name, 'missing')})"


def _of_the_head(ledger: Ledger, plan: Planned) -> str:
    """Return the structure of the model that the head's rows make now; or why they make none."""
    chain, declaration = plan.chain, plan.declaration
    maker = maker_of(chain, chain.links[-1])
    try:
        if maker.version.kind == Kind.IMPORT:
            return neutral_structure(declaration, plan.constants, plan.carried)
        link = maker if maker.version.batch else chain.counted(maker)[-1]
        return _structure(plan, _batch(ledger, declaration, chain, maker, link))
    except ModelRefused as error:
        return f"it cannot be built from these rows any more: {error.found or error}"[:200]


def _batch(
    ledger: Ledger, declaration: Declaration, chain: Chain, maker: ChainLink, link: ChainLink
) -> Batch:
    """Return the batch of a link as the fit of `maker` saw it."""
    counted = chain.counted(maker)
    place = records_of(counted).index(link.version.record)
    read = read_batches(ledger, declaration, [link], held=True)
    return in_context(ledger, declaration, counted[:place], read, held=True)[0]


def _structure(plan: Planned, batch: Batch) -> str:
    from lindley.target.reuse import built  # saves start-up time, as above

    return structure(built(plan.declaration, plan.carried, plan.constants, (batch,)).model)


def neutral_structure(declaration: Declaration, constants: dict[str, float], carried: tuple[str, ...]) -> str:
    """Return the structure of the model of an import, which has no rows."""
    frame = neutral_frame(declaration, 2)
    model = model_graph.build(declaration, frame, constants=constants)
    return structure(model_graph.take_apart(declaration, model, carried).model)


def _where(chain: Chain) -> str:
    return f"link {chain.head.number}" if chain.head else "the chain's genesis"
