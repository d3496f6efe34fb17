"""Trading: a model with a revocable backdoor, its key, and the protocol of the sale.

>>> from doorward.trading.protocol import Stage
>>> Stage.RELEASED.final
False
"""
