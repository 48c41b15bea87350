"""lindley/ledger/mlflow."""
