"""A person decides on candidates in Prefect's pages."""
