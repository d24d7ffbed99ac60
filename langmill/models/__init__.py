"""Networks as configurations: the Transformer, its families, word statistics. [models]"""
