-- Beside `ledger`, which the image makes.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
