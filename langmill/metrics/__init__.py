"""Scores as pure functions of counts and outputs; numpy and the standard library only. [metrics]"""
