"""`atri diagnose`: the errors that ATRI's theory describes, measured."""
