"""The probabilistic programs: how scenes come about (`airjax.programs.model`), how they are read
(`airjax.programs.guide`), and how both learn (`airjax.programs.elbo`)."""
