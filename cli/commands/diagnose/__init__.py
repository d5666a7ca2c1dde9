"""`atri diagnose`: measure the errors that ATRI's theory describes."""
