"""The command line: ``airjax train | evaluate | predict | plot | sample | demo ...``."""
