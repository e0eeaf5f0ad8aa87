"""How sure a fit is: refits, profiles and the noise that runs share."""
