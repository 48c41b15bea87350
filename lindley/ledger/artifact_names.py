"""Names of a link's files."""

RECORD = "record.json"
BATCH = "batch.parquet"
TRACE = "trace.nc"
SUMMARY = "summary.csv"
MATCHED_PRIOR = "matched_prior.nc"
MODEL = "model.py"
AUDIT = "audit.csv"
SIGNATURE = "signature.dsse.json"
#: Folder of the plots, which are drawn from the trace and not part of the record.
PLOTS = "plots/"
