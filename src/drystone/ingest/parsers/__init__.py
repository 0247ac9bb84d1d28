"""Bytes to text, a format a file. All of it runs inside a limited worker (``ingest/worker.py``), never in the caller.

Each parser raises ``ParseFailed`` with a typed kind: ``malformed``, ``encrypted``, ``encoding``, ``expansion``,
``empty`` or ``unsupported``. A document without any text is not an error here: the worker says ``empty``.
"""
