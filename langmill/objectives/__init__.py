"""Losses: every objective returns `(loss_sum, count)`, and the training loop divides once. [objectives]"""
