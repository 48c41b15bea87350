"""The steps of each flow in order. Knows neither Prefect nor MLflow."""
