"""Configurations in run folders are YAML that PyYAML's own reader and writer agree with."""

from __future__ import annotations

import yaml

from fmscale.runs import config_file


def test_the_text_is_that_of_plain_yaml_and_is_read_back(tmp_path):
    config = {
        "study": "a", "seed": 1, "lr": 3e-4, "tiny": 1e-12, "none": None, "yes": True,
        "nested": {"z": [1, 2.5, "x: y # z"], "a": {}, "empty": []},
        "texts": ["ä ü", "line\nbreak", "yes", "1e3", "'quoted'", "long words " * 30],
    }  # fmt: skip
    text = config_file.write(config)
    assert text == yaml.dump(config, Dumper=yaml.SafeDumper, sort_keys=False)
    (tmp_path / "config.yaml").write_text(text)
    assert config_file.read(tmp_path / "config.yaml") == config
    assert list(config_file.read(tmp_path / "config.yaml")) == list(config)
