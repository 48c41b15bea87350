"""A registered belief answers: predictions for new rows. Stored models import it: its address is stable."""
