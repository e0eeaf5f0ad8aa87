"""Training data: byte-level text, rendered scenes with captions, and the order they come in."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "ByteText": "text.token_dataset",
    "InContextMarkov": "languages.in_context_markov",
    "Markov": "languages.markov",
    "Mixture": "text.mixture",
    "RandomHierarchy": "languages.random_hierarchy",
    "SceneGrammar": "scenes.grammar",
    "Scenes": "scenes.dataset",
    "Source": "text.mixture",
    "TaskDocuments": "prompts.task_documents",
    "TokenShards": "text.token_shards",
    "ZipfFacts": "languages.zipf_facts",
    "caption_table": "pairs.image_text",
    "webdataset": "pairs.image_text",
}
__getattr__ = shown(__name__, PUBLIC)
