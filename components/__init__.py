"""The work of BoxPromptIML: data, teacher, student, evaluation, registry, lineage.

Nothing here knows of Prefect, schedules, retries or approval; that is `flows`.
"""
