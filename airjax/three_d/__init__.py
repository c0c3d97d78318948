"""Scenes of solids on a table: the decoder is a renderer, and nothing in the model is learned
(Eslami et al., 2016, section 3.3)."""
