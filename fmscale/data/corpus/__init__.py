"""Raw text on disk: where documents come from and which of them are worth training on."""
