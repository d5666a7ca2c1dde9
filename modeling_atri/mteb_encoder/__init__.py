"""Earlier import path of `modeling_atri.mteb`, kept for existing code."""

from modeling_atri.mteb.encoder import AtriMtebEncoder


__all__ = ["AtriMtebEncoder"]
