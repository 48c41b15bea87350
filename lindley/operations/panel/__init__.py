"""Panels: plan, fit and log a link with the beliefs of many members."""
