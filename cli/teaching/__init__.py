"""Parts of `atri teach`: the model that is taught, measurements, and the printed texts."""
