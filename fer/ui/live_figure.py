"""Figures that move while a run trains and keep their reader's zoom.

Streamlit knows a chart by its data: new data are a new chart to the browser, and its zoom is gone. So a live chart stays what
it was when it was first shown, and the new data are handed to plotly in the browser, which keeps what the reader chose.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from fer.ui.parts import chart

_FIRST = "live-figures"

# Streamlit's chart puts plotly on the window; where a later version does not, `plain` asks Python for charts anew.
_SCRIPT = """
const latest = new Map();

function ranges(layout) {
  const found = {};
  for (const [name, axis] of Object.entries(layout || {}))
    if (/^[xy]axis\\d*$/.test(name) && axis && axis.range) found[name] = axis.range.map(Number);
  return found;
}

function same(a, b) {
  return a && b && a.length === b.length && a.every((v, i) => Math.abs(v - b[i]) < 1e-9);
}

function apply(key, asked, tries, state) {
  if (latest.get(key) !== asked) return;
  const box = document.querySelector(".st-key-" + CSS.escape(key));
  const graph = box && box.querySelector(".js-plotly-plot");
  if (!graph || !graph._fullLayout || !window.Plotly) {
    if (tries) setTimeout(() => apply(key, asked, tries - 1, state), 100);
    else if (graph && !window.Plotly) state("plain", true);
    return;
  }
  const before = graph.ferAsked || asked.first;
  const layout = structuredClone(asked.layout);
  for (const name of Object.keys(graph._fullLayout)) {
    if (!/^[xy]axis\\d*$/.test(name)) continue;
    const now = graph._fullLayout[name];
    const zoomed = now.autorange === false && !same(now.range.map(Number), before[name]);
    if (zoomed) layout[name] = {...layout[name], range: now.range.slice(), autorange: false};
  }
  for (const name of ["width", "height", "dragmode", "clickmode"])
    if (graph.layout[name] !== undefined) layout[name] = graph.layout[name];
  graph.ferAsked = ranges(asked.layout);
  window.Plotly.react(graph, asked.data, layout, graph._context).then(() => graph.emit("plotly_redraw"));
  const figure = box.querySelector("[role=figure]");
  if (figure) figure.setAttribute("aria-label", asked.alt);
}

export default function ({ data, setStateValue }) {
  for (const [key, asked] of Object.entries(data.figures)) {
    latest.set(key, asked);
    apply(key, asked, 100, setStateValue);
  }
}
"""
_mount = st.components.v2.component("fer_live_figures", js=_SCRIPT)


@dataclass
class LiveFigures:
    """The charts of one view. Where `live`, a chart is followed from its first drawing on; draw all, then `send`.

    view: what, when it changes, makes the charts other charts: options, runs and their colours.
    """

    live: bool
    view: Hashable
    _new: dict[str, Any] = field(default_factory=dict)

    def draw(self, figure: go.Figure, *, key: str, alt: str) -> None:
        """A chart that is drawn once and moved from then on; a plain one where nothing is live."""
        first = st.session_state.setdefault(_FIRST, {})
        if key in first and first[key][0] != self.view:
            del first[key]
        if st.session_state.get("live-plain") or not (self.live or key in first):
            chart(figure, key=key, alt=alt)
            return
        _, shown, said = first.setdefault(key, (self.view, figure, alt))
        with st.container(key=f"box-{key}"):
            chart(shown, key=key, alt=said)
        if shown is not figure:
            self._new[f"box-{key}"] = {**figure.to_plotly_json(), "first": _ranges(shown), "alt": alt}

    def send(self) -> None:
        """Hand the browser what has moved."""
        if self._new:
            with st.container(height=1, border=False):
                result = _mount(key="live-figures", data={"figures": self._new}, on_plain_change=lambda: None)
            if result.get("plain"):
                st.session_state["live-plain"] = True


def _ranges(figure: go.Figure) -> dict[str, list[float]]:
    layout = figure.layout.to_plotly_json()
    return {
        k: list(v["range"]) for k, v in layout.items() if k[1:5] == "axis" and isinstance(v, dict) and v.get("range")
    }
