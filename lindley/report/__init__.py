"""What people read about a link: figures, a Markdown note, tables. Plain values in, values out."""
