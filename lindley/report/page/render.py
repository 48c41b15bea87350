"""The page of a chain as HTML: every text from outside is escaped, and nothing is fetched."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from lindley.report.numbers import MISSING, QUANTILES, format_number
from lindley.report.page.charts import Marks, fan, lines
from lindley.report.page.content import IndexContent, LinkContent, LinkPage, PageContent
from lindley.report.tables import not_counted, parameter_rows, summary_values
from lindley.report.text import one_line

#: Parameters with a chart at most, in the order of the head's summary.
MOST_CHARTS = 24
#: Newest links with details at most: a page of a long chain stays readable, and small.
MOST_DETAILS = 60
_LIVE_DETAILS = 5
#: Newest links in the small picture of a chain.
_PICTURE_LINKS = 100
#: Lines of each file of the head's code at most.
MOST_LINES = 400
#: Quantiles of a standard normal in the order of `QUANTILES`.
_NORMAL = (-1.6449, -0.6745, 0.0, 0.6745, 1.6449)
_AMENDMENTS = ("retract", "correct", "rollback")


def render(content: PageContent, *, live: bool = False) -> str:
    """Return the page of a chain.

    Parameters
    ----------
    content
        What it shows.
    live
        Whether a server shows it: its links then have pages of their own, and it has details of the
        newest few only.

    Returns
    -------
    str
        An HTML document in one piece: styles, charts and images are in it, and no script.
    """
    head, details = content.head, content.links[-(_LIVE_DETAILS if live else MOST_DETAILS) :]
    names = [str(label) for label in head.summary.index]
    return template("chain.html.j2").render(
        page=content,
        live=live,
        head=head,
        attention=_attention(content),
        facts=_facts(content),
        charts=[(name, _fan(content, name)) for name in names[:MOST_CHARTS]],
        parameters_in_all=len(names),
        whole=content.whole,
        length=content.length or len(content.links),
        figures=_figures(content),
        table=[_row(link) for link in reversed(content.links)],
        details=[(link, parameter_rows(link.summary)) for link in reversed(details)],
        head_rows=parameter_rows(head.summary),
        images=_images(content.plots),
        code=_lines(content.code),
        most_lines=MOST_LINES,
    )


def render_link(content: LinkPage) -> str:
    """Return the page of one link, for a server that shows the others too."""
    return template("link.html.j2").render(
        chain=content.chain,
        link=content.link,
        links=content.links,
        rows=parameter_rows(content.link.summary),
        metrics=[(one_line(name), format_number(value)) for name, value in content.link.metrics.items()],
        addresses=content.addresses,
        images=_images(content.plots),
        code=_lines(content.code),
        most_lines=MOST_LINES,
    )


def render_index(content: IndexContent) -> str:
    """Return the page of all chains, for a server that shows each of them too."""
    return template("index.html.j2").render(
        rows=[
            {
                "chain": row.chain,
                "verified": row.verified,
                "verified_head": row.verified_head,
                "waiting": row.waiting,
                "undecided": row.undecided,
                "files": row.files,
                "warnings": row.warnings,
                "facts": list(row.facts.items()),
                "picture": _picture(row.scores),
            }
            for row in content.rows
        ],
        problems=content.problems,
        wanted=content.wanted,
        written=content.written,
        lindley=content.lindley,
    )


@lru_cache(256)
def _picture(scores: tuple[float, ...]) -> str:
    """Return a small chart of scores by link; none where there is nothing to draw."""
    newest = list(scores)[-_PICTURE_LINKS:]
    if not np.isfinite(newest).any():
        return ""
    start = len(scores) - len(newest) + 1
    return lines(range(start, start + len(newest)), [newest], Marks())


def _images(plots: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(name, base64.b64encode(data).decode("ascii")) for name, data in plots.items()]


def _lines(code: Mapping[str, str]) -> dict[str, list[str]]:
    return {name: text.splitlines()[:MOST_LINES] for name, text in code.items()}


@cache
def template(name: str) -> Any:
    """Return a template of the pages: every value is escaped, and a name that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("lindley.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "line": one_line,
        "day": lambda text: str(text)[:16].replace("T", " "),
        "short": lambda text: str(text)[:12],
        "pairs": _pairs,
        # Ends of key ranges are texts with their type in front.
        "value": lambda text: one_line(str(text).partition(":")[2] or text),
    }
    return environment.get_template(name)


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a nested mapping of the record as names and text, each on one line."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [(f"{one_line(name)} {inner}", text) for inner, text in _pairs(value)]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            found.append((one_line(name), one_line(text if text not in ("", None) else MISSING, 400)))
    return found


def _attention(content: PageContent) -> list[str]:
    """Return what a reader has to know before anything else, in sentences."""
    found = []
    verification = content.verification
    if verification is not None and not verification.ok:
        found.append(f"The chain does not verify: {verification.message}")
    if content.waiting:
        found.append(not_counted([other.batch for other in content.waiting]))
    return list(dict.fromkeys([*found, *content.head.warnings]))


def _facts(content: PageContent) -> list[tuple[str, str]]:
    """Return what the chain is, at a glance."""
    head, model = content.head, content.head.record["model"]
    counted = [link for link in content.links if link.batch and link.counted]
    rows = sum(link.rows for link in counted)
    return [
        ("head", f"link {head.number}, version {head.version}, {head.kind}"),
        ("record of the head", head.digest),
        ("registered", str(head.created)[:19].replace("T", " ")),
        (
            "batches counted" + ("" if content.whole else " of the links shown"),
            f"{len(counted):,} links with {rows:,} rows of their own",
        ),
        ("carried", ", ".join(map(str, model["carried"]))),
        ("genesis record", content.genesis),
        ("written", f"{content.written[:19].replace('T', ' ')} UTC by Lindley {content.lindley}"),
    ]


def _marks(links: Iterable[LinkContent]) -> Marks:
    known = list(links)
    return Marks(
        refits=tuple(link.number for link in known if link.kind == "rebase"),
        amendments=tuple(link.number for link in known if link.kind in _AMENDMENTS),
    )


def _fan(content: PageContent, parameter: str) -> str:
    """Draw a parameter along the chain; a label that a link does not have leaves a gap."""
    gap = [math.nan] * len(QUANTILES)
    table = [
        list(link.summary.loc[parameter, list(QUANTILES)].astype(float))
        if parameter in link.summary.index
        else gap
        for link in content.links
    ]
    first = content.links[0]
    prior = None
    values = dict(summary_values(first.summary)).get(parameter)
    if (
        first.number == 1
        and first.kind == "update"
        and values is not None
        and math.isfinite(values["prior_sd"])
    ):
        prior = [values["prior_mean"] + z * values["prior_sd"] for z in _NORMAL]
    return fan([link.number for link in content.links], np.array(table), _marks(content.links), prior=prior)


def _figures(content: PageContent) -> list[tuple[str, str, str]]:
    """Return title, explanation and chart of what was measured along the chain, as far as it was."""
    links, limits = content.links, content.head.record["thresholds"]
    per_row = [
        value / max(link.rows, 1)
        for link, value in zip(links, _of_batches(links, "log_predictive"), strict=True)
    ]
    found = [
        (
            "Log predictive density of each batch, per row",
            "How well the belief before the batch predicted it. A fall that lasts means that the model, or "
            "what it describes, has changed.",
            [per_row],
            None,
        ),
        (
            "Log score of the chain",
            "The sum of the log predictive densities of all batches that count.",
            [_values(links, "log_score")],
            None,
        ),
        (
            "Conflict",
            "The probability (p) of a pull as strong as that of the batch if the belief before it holds. The "
            "horizontal line is the warning level.",
            [_of_batches(links, "conflict_p")],
            limits.get("conflict_warn"),
        ),
        (
            "Error along the chain, in posterior sds",
            "Solid: the error of the matched priors as measured with hindsight (drift). Dashed: the stated "
            "error, drift and Monte Carlo error together. The horizontal line is the warning level.",
            [_values(links, "drift"), _values(links, "stated_error")],
            limits.get("drift_warn"),
        ),
    ]
    numbers, marks = [link.number for link in links], _marks(links)
    return [
        (title, text, lines(numbers, drawn, marks, threshold=threshold))
        for title, text, drawn, threshold in found
        if np.isfinite(np.array(drawn)).any()
    ]


def _values(links: Sequence[LinkContent], name: str) -> list[float]:
    """Return a metric by link; NaN where a link has none."""
    return [float(link.metrics.get(name, math.nan)) for link in links]


def _of_batches(links: Sequence[LinkContent], name: str) -> list[float]:
    """Return what a metric states of a link's own batch; a link without one has the metrics of another."""
    found = zip(links, _values(links, name), strict=True)
    return [value if link.batch else math.nan for link, value in found]


def _row(link: LinkContent) -> dict[str, Any]:
    """Return the row of a link in the table of links."""
    metrics = link.metrics
    ess = [metrics[name] for name in ("ess_bulk_min", "ess_tail_min") if name in metrics]
    return {
        "link": link,
        "says": len(link.warnings),
        "log predictive": format_number(metrics.get("log_predictive")),
        "conflict p": format_number(metrics.get("conflict_p"), digits=2),
        "stated error": format_number(metrics.get("stated_error"), digits=2),
        "R-hat": format_number(metrics.get("r_hat_max")),
        "ESS": format_number(min(ess, default=None), digits=3),
    }
