"""Where rows come from: the forms in which data sets are found on disk and on the Hub."""
