"""What an operator's monitoring asks: status, metrics, logs by machine."""
