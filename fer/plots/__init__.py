"""Figures: plain results in, plotly figures out. No Streamlit and no torch here.

Every function takes `dark`, since a figure cannot know what it will stand on; backgrounds are transparent.
"""
