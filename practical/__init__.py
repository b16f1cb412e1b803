"""The practical: every experiment of a report on recurrent networks, reproduced, and what it left open.

    p2 practical baum-sweet --quick

An experiment writes one JSON document (`document`) with its settings, results, claims and figures under
``artifacts/practical/``; `page` makes one HTML report of all documents that are there.
"""
