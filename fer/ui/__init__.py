"""The dashboard's shared parts: the only place in `fer` that imports Streamlit."""
