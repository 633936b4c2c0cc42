"""Differences between groups of runs, with their intervals."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from fer.plots.curves import short
from fer.plots.style import faint_text, ink, styled
from fer.verdicts import Verdict

_REAL, _NOISE = "#009e73", "#7a8794"


def differences(verdicts: Sequence[Verdict], *, dark: bool) -> go.Figure:
    """Each verdict's difference in top-1 and its 95 % interval around it, in points; filled and green where it is real.

    Refused verdicts are left out; read from the top in the order given.
    """
    told = [v for v in verdicts if v.difference is not None and v.interval is not None][::-1]
    figure = go.Figure()
    for v in told:
        assert v.difference is not None and v.interval is not None
        middle, low, high = (100 * x for x in (v.difference, *v.interval))
        colour = _REAL if v.is_real else (_NOISE if not dark else faint_text(dark))
        figure.add_scatter(
            x=[middle],
            y=[v.name],
            error_x={
                "type": "data",
                "array": [high - middle],
                "arrayminus": [middle - low],
                "thickness": 2.4,
                "width": 7,
            },
            mode="markers",
            marker={
                "size": 13,
                "color": colour,
                "symbol": "circle" if v.is_real else "circle-open",
                "line": {"width": 2},
            },
            hovertemplate=f"%{{x:+.2f}} points, 95 % interval {low:.2f} to {high:.2f}<br>{'real' if v.is_real else 'not more than chance'}<extra></extra>",
            showlegend=False,
        )
    styled(figure, dark=dark, height=110 + 46 * len(told), legend=False)
    figure.add_vline(x=0, line={"color": ink(dark), "width": 1, "dash": "dot"})
    figure.update_layout(margin={"t": 10, "b": 48, "l": 8, "r": 16})
    base = html.escape(short(told[0].baseline)) if told else "the baseline"
    figure.update_xaxes(title_text=f"top-1{_on(told)} against {base}, points")
    names = [v.name for v in told]
    figure.update_yaxes(
        tickvals=names, ticktext=[html.escape(short(n)) for n in names], type="category", showgrid=False
    )
    return figure


def differences_in_words(verdicts: Sequence[Verdict]) -> str:
    """The differences as text, for those who cannot see them."""
    return f"Differences in top-1{_on(verdicts)} with 95 % intervals. " + " ".join(v.sentence for v in verdicts)


def numbers(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """A row for each verdict, refused ones too: differences and intervals as fractions, and the sentence."""
    rows = []
    for v in verdicts:
        low, high = v.interval or (None, None)
        of = {
            "name": v.name,
            "baseline": v.baseline,
            "kind": v.kind,
            "difference": v.difference,
            "low": low,
            "high": high,
        }
        rows.append(
            {**of, "p": v.p, "p_corrected": v.p_corrected, "n": v.n, "is_real": v.is_real, "sentence": v.sentence}
        )
    return rows


def _on(verdicts: Sequence[Verdict]) -> str:
    """' on test' where they are about that split; '' for val, on which all other figures are."""
    return f" on {verdicts[0].split}" if verdicts and verdicts[0].split != "val" else ""
