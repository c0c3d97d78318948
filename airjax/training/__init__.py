"""Training: one step, the loop, and the folder that a run is kept in."""
