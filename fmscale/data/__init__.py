"""Training data: byte-level text, rendered scenes with captions, and the order they come in."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "ByteText": "text.token_dataset",
    "InContextMarkov": "known_languages.in_context_markov",
    "Markov": "known_languages.markov",
    "Mixture": "text.mixture",
    "RandomHierarchy": "known_languages.random_hierarchy",
    "SceneGrammar": "scenes.grammar",
    "Scenes": "scenes.dataset",
    "Source": "text.mixture",
    "TaskDocuments": "tasks.task_documents",
    "TokenShards": "text.token_shards",
    "ZipfFacts": "known_languages.zipf_facts",
    "caption_table": "image_text.image_text",
    "webdataset": "image_text.image_text",
}
__getattr__ = shown(__name__, PUBLIC)
