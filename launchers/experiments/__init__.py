"""Configurations of the experiments that `limbeck run` knows."""
