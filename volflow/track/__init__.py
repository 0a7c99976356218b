"""Objects followed from section to section: memories, overlaps, births, deaths, joining."""
