"""From tokens to tensors: shards on disk, packing, loaders that resume exactly. [batches]"""
