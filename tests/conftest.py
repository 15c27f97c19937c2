"""For all tests: hypothesis asserts no time, since a machine may be busy with something else."""

from hypothesis import settings

settings.register_profile("stratalog", deadline=None)
settings.load_profile("stratalog")
