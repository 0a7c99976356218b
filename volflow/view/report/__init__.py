"""Reports: pages, tables, plots and pictures of runs and scores."""
