"""Scores of models on text beside references, and what must hold of a checkpoint. [evaluation]"""
