"""Doorward behind HTTP: the trading desk, the inference gateway, and the database under both.

The parts load when they are used, so that a thin client does not pay for a server:

>>> from doorward.serving.database import Database
>>> with Database("sqlite://").reading() as session:
...     session.connection().exec_driver_sql("select 1").scalar()
1
"""
