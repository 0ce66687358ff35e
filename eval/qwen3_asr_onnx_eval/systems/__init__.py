"""The recognisers under evaluation, each in a process of its own."""
