"""Text out of a model: logit filters, sampling, the decoding loop and its fast kernels. [generation]"""
