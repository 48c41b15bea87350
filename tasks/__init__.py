"""Prefect tasks: each unpacks its arguments, calls the core and says what it did."""
