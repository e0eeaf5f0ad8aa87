"""From words on a command line to objects: composing, checking and building configurations."""
