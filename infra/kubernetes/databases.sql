-- Run once, by psql: the databases beside `ledger`, which the image makes, and the roles that reach the
-- ledger alone. Its migrations say what these may do there.
CREATE DATABASE mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE prefect ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE mlflow, prefect FROM PUBLIC;
\getenv flows IML_FLOWS_PASSWORD
\getenv people IML_PEOPLE_PASSWORD
CREATE ROLE iml_flows LOGIN PASSWORD :'flows';
CREATE ROLE iml_people LOGIN PASSWORD :'people';
