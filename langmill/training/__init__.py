"""Optimisers, schedules, the budget, the loop, resumable state, tracking. [training]"""
