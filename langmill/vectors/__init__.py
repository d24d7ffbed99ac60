"""Word vectors. [vectors]"""
