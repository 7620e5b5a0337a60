"""Networks, losses and the one supervised training loop: arrays in, arrays out."""
