"""`iml serve`: a student's answers over HTTP, and a page to drop a photo on.

`models` holds the student that answers and exchanges it for a new champion, `engine` decodes and
predicts photos of concurrent requests, `reading` takes a photo out of a request, `metrics` counts
for Prometheus, `app` puts them behind FastAPI. It imports neither torch nor MLflow.
"""
